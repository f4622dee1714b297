import pytest

from quoth.system.openmp import SPINS, sleep_soon


def test_waiting_threads_sleep_soon_unless_the_user_has_said_how_they_wait():
    environment = {"HOME": "/"}
    sleep_soon(environment)
    assert environment == {"HOME": "/", "GOMP_SPINCOUNT": str(SPINS), "KMP_BLOCKTIME": "1"}


@pytest.mark.parametrize("name", ["OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"])
def test_what_the_user_has_set_stays(name):
    environment = {name: "7"}
    sleep_soon(environment)
    assert environment == {name: "7"}
