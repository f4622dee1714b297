// The server's API, as the page needs it: which runs there are, and answers as streams of tokens.

export class Refusal extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export async function request(path, key, options = {}) {
  const headers = { "content-type": "application/json", ...(key && { authorization: `Bearer ${key}` }) };
  const response = await fetch(path, { ...options, headers }).catch((error) => {
    throw error.name === "AbortError" ? error : new Refusal(0, "The server cannot be reached.");
  });
  if (response.ok) return response;
  const said = await response.json().catch(() => null);
  throw new Refusal(response.status, said?.error?.message ?? `The server answered ${response.status}.`);
}

export async function listModels(key) {
  return (await (await request("/v1/models", key)).json()).data;
}

// A token's name as bytes: text, or the bytes of a part of a character.
export function bytesOf(name) {
  if (!name.startsWith("bytes:")) return new TextEncoder().encode(name);
  return Uint8Array.from(name.slice(6).split("\\x").slice(1), (hex) => parseInt(hex, 16));
}

async function* events(response) {
  const reader = response.body.getReader();
  const decoder = new TextDecoder(); // Of this stream alone: a character may be cut in two.
  let held = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    held += decoder.decode(value, { stream: true });
    const parts = held.split("\n\n");
    held = parts.pop();
    for (const part of parts) {
      if (!part.startsWith("data: ")) continue; // A comment, by which the server says that it is still there.
      const data = part.slice(6);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Refusal(500, event.error.message);
      yield event;
    }
  }
}

// Yields {tokens: [{id, name, chance, likely}], text, finish}. A completion tells its prompt's tokens first, marked so.
export async function* write(model, asked, key, signal) {
  const path = model.chats ? "/v1/chat/completions" : "/v1/completions";
  const likely = model.chats ? { logprobs: true, top_logprobs: 10 } : { logprobs: 10, echo: true };
  const body = JSON.stringify({ model: model.id, stream: true, ...likely, ...asked });
  const response = await request(path, key, { method: "POST", body, signal });
  let prompt = !model.chats;
  for await (const event of events(response)) {
    const choice = event.choices[0];
    if (!choice) continue;
    const tokens = model.chats ? fromChat(choice.logprobs) : fromCompletion(choice.logprobs, prompt);
    if (tokens.length) prompt = false;
    yield { tokens, text: choice.text ?? choice.delta?.content ?? "", finish: choice.finish_reason };
  }
}

function fromChat(told) {
  return (told?.content ?? []).map((one) => ({
    id: one.id,
    name: one.token,
    special: one.bytes === null,
    chance: Math.exp(one.logprob),
    likely: one.top_logprobs.map((other) => ({ id: other.id, name: other.token, chance: Math.exp(other.logprob) })),
  }));
}

function fromCompletion(told, prompt) {
  return (told?.tokens ?? []).map((name, n) => ({
    id: told.ids[n],
    name,
    prompt,
    special: told.special[n],
    chance: told.token_logprobs[n] === null ? null : Math.exp(told.token_logprobs[n]),
    likely: (told.top_ids[n] ?? []).map(([id, logprob, text]) => ({ id, name: text, chance: Math.exp(logprob) })),
  }));
}
