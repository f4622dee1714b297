"""Files of other projects are those that their packages hold, and each has its licence beside it."""

import hashlib
import tomllib

from quoth.web.site import VENDOR


def test_vendored_files_are_listed_with_their_hash_and_licence():
    listed = tomllib.loads((VENDOR / "vendored.toml").read_text())
    names = {path.name for path in VENDOR.iterdir()}
    licences = {f"LICENSE.{one['package']}" for one in listed.values()}
    assert names == {"vendored.toml", *listed, *licences}
    for name, one in listed.items():
        assert hashlib.sha256((VENDOR / name).read_bytes()).hexdigest() == one["sha256"], name


def test_they_are_small_and_load_nothing():
    files = [path for path in VENDOR.iterdir() if path.suffix in (".js", ".css")]
    assert sum(path.stat().st_size for path in files) < 75_000
    for path in files:
        text = path.read_text()
        assert "@import" not in text and "eval(" not in text and "new Function" not in text, path.name
