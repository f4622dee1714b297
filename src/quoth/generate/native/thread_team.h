#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

// Threads that take the same step together, and wait for each other by spinning: a phase lasts microseconds.
class ThreadTeam {
 public:
  explicit ThreadTeam(int size) : size(size) {
    try {
      for (int t = 1; t < size; t++) others.emplace_back([this, t] { serve(t); });
    } catch (...) {
      end();
      throw;
    }
  }
  ~ThreadTeam() { end(); }
  void run(std::function<void(int)> task) {
    work = std::move(task);
    round.fetch_add(1);
    round.notify_all();
    if (!work) return;
    work(0);
    wait();
  }
  // The next piece of a phase's work that nobody has taken.
  int take() { return taken.fetch_add(1); }
  // Until all have come here, which ends a phase.
  void wait() {
    const unsigned now = phase.load();
    if (arrived.fetch_add(1) + 1 == size) {
      arrived.store(0);
      taken.store(0);
      phase.fetch_add(1);
    } else {
      for (int spins = 0; phase.load() == now; spins++) pause(spins);
    }
  }
  const int size;

 private:
  void end() {
    run(nullptr);
    for (auto& other : others) other.join();
  }
  void serve(int t) {
    for (unsigned seen = 0;;) {
      for (int spins = 0; round.load() == seen && spins < 20000; spins++) pause(spins);
      round.wait(seen);
      seen++;
      if (!work) return;
      work(t);
      wait();
    }
  }
  static void pause(int spins) {
    if (spins > 200) return std::this_thread::yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }
  std::function<void(int)> work;
  std::vector<std::thread> others;
  std::atomic<unsigned> round{0}, phase{0};
  std::atomic<int> arrived{0}, taken{0};
};
