"""The key file and the seals made with it."""

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.errors import SnapshotTampered, StoreError
from greenroom.persistence import keys
from greenroom.persistence.keys import Signer, make_key, read_key

places = st.tuples(st.sampled_from(["config", "input"]), st.text(max_size=3) | st.integers(0, 9))


def test_a_key_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    store = str(tmp_path / "agents.db")
    key = make_key(store)
    assert len(key) == 32
    assert make_key(store) == read_key(store) == key
    assert [path.name for path in tmp_path.iterdir()] == ["agents.db.key"]
    assert stat.S_IMODE((tmp_path / "agents.db.key").stat().st_mode) == 0o600


def test_all_that_make_a_key_at_once_get_the_same(tmp_path: Path) -> None:
    gate = threading.Barrier(8)
    found: list[bytes] = []

    def make() -> None:
        gate.wait()
        found.append(make_key(str(tmp_path / "agents.db")))

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(found)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["agents.db.key"]


def test_a_symbolic_link_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_bytes(b"k" * 32)
    (tmp_path / "agents.db.key").symlink_to("elsewhere")
    with pytest.raises(StoreError, match="must be a plain file"):
        make_key(str(tmp_path / "agents.db"))


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_torn_key_is_refused_and_kept(tmp_path: Path, size: int) -> None:
    (tmp_path / "agents.db.key").write_bytes(b"k" * size)
    with pytest.raises(StoreError, match="must be a file of 32 bytes"):
        make_key(str(tmp_path / "agents.db"))
    assert (tmp_path / "agents.db.key").read_bytes() == b"k" * size


def test_a_key_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        os.close(descriptor)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keys, "_write_key", fail)
    with pytest.raises(StoreError, match="cannot be made: No space left"):
        make_key(str(tmp_path / "agents.db"))
    assert list(tmp_path.iterdir()) == []


@given(st.binary(max_size=50), places)
def test_what_was_sealed_is_opened(data: bytes, place: keys.ColumnPlace) -> None:
    sealer = Signer(b"k" * 32)
    assert sealer.open(sealer.seal(data, place), place, "/t/a") == data


@given(st.binary(max_size=50), places, places)
def test_a_seal_holds_for_one_place_only(
    data: bytes, place: keys.ColumnPlace, other: keys.ColumnPlace
) -> None:
    sealer = Signer(b"k" * 32)
    sealed = sealer.seal(data, place)
    if other != place:
        with pytest.raises(SnapshotTampered, match="/t/a"):
            sealer.open(sealed, other, "/t/a")
    with pytest.raises(SnapshotTampered):
        Signer(b"l" * 32).open(sealed, place, "/t/a")


@given(st.binary(max_size=20), st.data())
def test_a_changed_bit_breaks_the_seal(data: bytes, draw: st.DataObject) -> None:
    sealed = bytearray(Signer(b"k" * 32).seal(data, ("config", 1)))
    bit = draw.draw(st.integers(0, len(sealed) * 8 - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SnapshotTampered):
        Signer(b"k" * 32).open(bytes(sealed), ("config", 1), "/t/a")


@pytest.mark.parametrize("sealed", [None, "text", 5, b"", b"short"])
def test_what_has_no_seal_is_refused(sealed: object) -> None:
    with pytest.raises(SnapshotTampered, match="no signature"):
        Signer(b"k" * 32).open(sealed, ("config", 1), "/t/a")
