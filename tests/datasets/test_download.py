"""Download and unpacking: resumed, checked, whole or not at all; hostile archives and servers."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import real_data

from infoclip_lite.cli import data_command
from infoclip_lite.datasets import build_dataset
from infoclip_lite.datasets.fetching import download
from infoclip_lite.datasets.fetching.download import SOURCES, Archive, Source, datasets_of, source_of
from infoclip_lite.datasets.fetching.facts import facts, table
from infoclip_lite.datasets.fetching.fetch import fetch, hash_file
from infoclip_lite.datasets.fetching.unpack import Limits, unpack
from infoclip_lite.datasets.registry import downloadable

pytestmark = pytest.mark.filterwarnings("ignore:.*the official .* split has")
CONTENT = bytes(range(256)) * 4000


class Server:
    """Files by path, and how the server misbehaves."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.breaks: list[int] = []  # bytes after which the next answers break off
        self.tag: str | None = '"v1"'
        self.ranges = True
        self.status = 200
        self.asked: list[tuple[str, str | None]] = []
        self.sent = 0
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.answer(self)

            def log_message(self, *args: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        body = self.files.get(handler.path)
        if body is None or self.status != 200:
            return handler.send_error(404 if body is None else self.status)
        start = int(wanted[6:-1]) if wanted and self.ranges else 0
        if handler.headers.get("If-Range") not in (None, self.tag):
            start = 0
        if start >= len(body):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            return handler.end_headers()
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if self.tag:
            handler.send_header("ETag", self.tag)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        stop = self.breaks.pop(0) if self.breaks else len(body)
        self.sent += len(body[start : start + stop])
        handler.wfile.write(body[start : start + stop])
        return None


@pytest.fixture
def server() -> Iterator[Server]:
    served = Server()
    served.files["/a.bin"] = CONTENT
    yield served
    served.http.shutdown()
    served.http.server_close()


def sha256(content: bytes = CONTENT) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(server: Server, tmp_path: Path) -> None:
    fetch(f"{server.url}/a.bin", tmp_path / "new" / "a.bin", sha256())
    assert (tmp_path / "new" / "a.bin").read_bytes() == CONTENT and [
        p.name for p in (tmp_path / "new").iterdir()
    ] == ["a.bin"]


@pytest.mark.parametrize("digest", [sha256(), ""])
def test_a_broken_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path, digest: str) -> None:
    server.breaks = [100_000, 1, 300_000]
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", digest, pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.asked] == [None, "bytes=100000-", "bytes=100001-", "bytes=400001-"]
    assert server.sent == len(CONTENT)


def test_a_killed_download_is_gone_on_with_by_the_same_call(server: Server, tmp_path: Path) -> None:
    server.breaks = [200_000, *[0] * 9]
    with pytest.raises(OSError, match="200000 bytes are kept.*goes on from there"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", tries=2, pause=0)
    assert not (tmp_path / "a.bin").exists() and (tmp_path / "a.bin.part").stat().st_size == 200_000
    server.breaks = []
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT and server.asked[-1][1] == "bytes=200000-"


@pytest.mark.parametrize("change", ["tag", "ranges", "no tag"])
def test_a_part_of_another_file_is_never_gone_on_with(server: Server, tmp_path: Path, change: str) -> None:
    server.breaks = [200_000, *[0] * 9]
    server.tag = None if change == "no tag" else server.tag
    with pytest.raises(OSError, match="kept"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", tries=1, pause=0)
    server.breaks, server.files["/a.bin"] = [], CONTENT[::-1]
    server.tag = '"v2"' if change == "tag" else server.tag
    server.ranges = change != "ranges"
    fetch(f"{server.url}/a.bin", tmp_path / "a.bin", pause=0)
    assert (tmp_path / "a.bin").read_bytes() == CONTENT[::-1]


def test_a_part_that_is_whole_already_or_too_long(server: Server, tmp_path: Path) -> None:
    for part in (CONTENT, CONTENT + b"more"):
        (tmp_path / "a.bin.part").write_bytes(part)
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", sha256(), pause=0)
        assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_a_wrong_digest_is_said_and_the_file_deleted(server: Server, tmp_path: Path) -> None:
    server.files["/a.bin"] = CONTENT + b"!"
    with pytest.raises(ValueError, match=f"got sha256 .*, expected {sha256()[7:]}"):
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin", sha256())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "path", "asked"), [(200, "/none", 1), (403, "/a.bin", 1), (503, "/a.bin", 3)]
)
def test_a_refusal_is_final_and_a_busy_server_is_asked_again(
    server: Server, tmp_path: Path, status: int, path: str, asked: int
) -> None:
    server.status = status
    with pytest.raises(OSError, match=str(404 if path == "/none" else status)):
        fetch(f"{server.url}{path}", tmp_path / "a.bin", tries=3, pause=0)
    assert len(server.asked) == asked


def test_a_server_that_is_gone(server: Server, tmp_path: Path) -> None:
    with pytest.raises(OSError, match="the same command goes on"):
        fetch("http://127.0.0.1:9/a.bin", tmp_path / "a.bin", tries=2, pause=0)


def test_a_full_disk_is_said_before_anything_is_fetched(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match=r"cannot download a\.bin: .* GB needed") as caught:
        fetch(f"{server.url}/a.bin", tmp_path / "a.bin")
    assert caught.value.errno == errno.ENOSPC and list(tmp_path.iterdir()) == []
    archive = zipped(tmp_path / "x.zip", {"a/b.txt": b"b" * 5000})
    with pytest.raises(OSError, match=r"cannot unpack x\.zip"):
        unpack(archive, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def zipped(path: Path, files: dict[str, bytes], change: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            if change is not None:
                change(entry)
            archive.writestr(entry, content)
    return path


def tarred(path: Path, files: dict[str, bytes], change: Any = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.suffix in (".gz", ".tgz") else "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            if change is not None:
                change(entry)
            archive.addfile(entry, io.BytesIO(content))
    return path


PACKERS = {"x.zip": zipped, "x.tar": tarred, "x.tgz": tarred}


@pytest.mark.parametrize("name", PACKERS)
def test_archives_are_unpacked_over_what_is_there(tmp_path: Path, name: str) -> None:
    target = tmp_path / "out"
    (target / "a").mkdir(parents=True)
    (target / "a" / "mine.txt").write_text("mine")
    (target / "a" / "1.txt").write_text("old")
    archive = PACKERS[name](tmp_path / name, {"a/1.txt": b"one", "./a/b/2.txt": b"two"})
    assert unpack(archive, target) == 2
    assert {p.relative_to(target).as_posix(): p.read_text() for p in target.rglob("*.txt")} == {
        "a/1.txt": "one",
        "a/b/2.txt": "two",
        "a/mine.txt": "mine",
    }
    assert sorted(p.name for p in target.iterdir()) == ["a"]


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize(
    "path", ["../out.txt", "a/../../out.txt", "/tmp/out.txt", "..\\out.txt", "C:\\out.txt", "C:out.txt"]
)
def test_no_entry_leaves_the_folder(tmp_path: Path, name: str, path: str) -> None:
    archive = PACKERS[name](tmp_path / "in" / name, {"good.txt": b"good", path: b"bad"})
    with pytest.raises(ValueError, match="would leave the folder"):
        unpack(archive, tmp_path / "in" / "out")
    assert sorted(p.name for p in tmp_path.rglob("*")) == sorted(["in", name])


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE]
)
def test_no_links_and_devices_from_tar(tmp_path: Path, kind: bytes) -> None:
    def change(entry: tarfile.TarInfo) -> None:
        if entry.name == "bad":
            entry.type, entry.linkname, entry.size = kind, "/etc", 0

    archive = tarred(tmp_path / "x.tar", {"good.txt": b"good", "bad": b"", "bad/passwd": b"x"}, change)
    with pytest.raises(ValueError, match="link, a device"):
        unpack(archive, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_no_links_and_secrets_from_zip(tmp_path: Path) -> None:
    def link(entry: zipfile.ZipInfo) -> None:
        entry.external_attr = 0o120777 << 16

    archive = zipped(tmp_path / "x.zip", {"bad": b"/etc"}, link)
    with pytest.raises(ValueError, match="link, a device or encrypted"):
        unpack(archive, tmp_path / "out")
    plain = bytearray(zipped(tmp_path / "y.zip", {"a": b"a"}).read_bytes())
    plain[plain.index(b"PK\1\2") + 8] |= 1  # the flag of encryption in the directory
    (tmp_path / "y.zip").write_bytes(plain)
    with pytest.raises(ValueError, match="encrypted"):
        unpack(tmp_path / "y.zip", tmp_path / "out")


@pytest.mark.parametrize("name", PACKERS)
def test_bombs_are_refused_before_anything_is_written(tmp_path: Path, name: str) -> None:
    archive = PACKERS[name](tmp_path / name, {f"{i}.txt": b"\0" * 3_000_000 for i in range(5)})
    refused = [Limits(bytes=10_000_000), Limits(files=4)]
    if name != "x.tar":
        refused.append(Limits(ratio=50))  # zeros shrink a thousandfold
    for limits in refused:
        with pytest.raises(ValueError, match="would unpack to more than"):
            unpack(archive, tmp_path / "out", limits)
    assert not (tmp_path / "out").exists()
    assert unpack(archive, tmp_path / "out", Limits(ratio=10_000)) == 5


@pytest.mark.parametrize("name", PACKERS)
@pytest.mark.parametrize("keep", [0.3, 0.95])
def test_truncated_archives_leave_nothing(tmp_path: Path, name: str, keep: float) -> None:
    content = {f"{i}.bin": hashlib.sha512(bytes([i])).digest() * 300 for i in range(20)}
    archive = PACKERS[name](tmp_path / name, content)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * keep)])
    if name == "x.tar" and keep == 0.95:
        archive.write_bytes(whole[: int(len(whole) * 0.8)])  # the last tenth is padding
    with pytest.raises(ValueError, match="damaged"):
        unpack(archive, tmp_path / "out")
    assert not list(tmp_path.glob("out/*"))


@pytest.fixture
def ade(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Source:
    """A-150 as a zip on the local server, in the place of the official one."""
    real_data.write_ade150(tmp_path / "made")
    path = Path(shutil.make_archive(str(tmp_path / "ADEChallengeData2016"), "zip", tmp_path / "made"))
    server.files["/ade.zip"] = path.read_bytes()
    official = SOURCES["ade20k"].archives[0]
    archive = Archive(
        (f"{server.url}/gone.zip", f"{server.url}/ade.zip"),
        official.name,
        f"sha1:{hash_file(path, 'sha1')}",
        official.into,
        official.makes,
    )
    source = Source((archive,), "here", "the test", "Ask a friend.")
    monkeypatch.setitem(SOURCES, "ade20k", source)
    return source


def test_download_ends_in_a_data_set_and_a_record(server: Server, ade: Source, tmp_path: Path) -> None:
    root, told = tmp_path / "root", list[str]()
    download.download("a150", root, tries=1, say=told.append)
    assert len(build_dataset("a150", "val", root)) == 2
    record = json.loads((root / "archives" / "ADEChallengeData2016.zip.json").read_text())
    assert (
        record["sha256"] == sha256(server.files["/ade.zip"])[7:]
        and record["published"] == ade.archives[0].digest
    )
    assert [path for path, _ in server.asked] == [
        "/gone.zip",
        "/ade.zip",
    ]  # a server that is gone, then the next
    download.download("ade20k", root, say=told.append)
    assert len(server.asked) == 2 and any("is there" in line for line in told)


def test_a_half_deleted_data_set_is_fetched_again_from_the_kept_archive(
    server: Server, ade: Source, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    download.download("a150", root, say=lambda _: None)
    shutil.rmtree(root / "ADEChallengeData2016" / "images")
    download.download("a150", root, say=lambda _: None)
    assert len(build_dataset("a150", "val", root)) == 2 and len(server.asked) == 2


def test_files_that_are_gone_or_damaged_are_mended_if_asked_for(
    server: Server, ade: Source, tmp_path: Path
) -> None:
    root = tmp_path / "root"
    download.download("a150", root, say=lambda _: None)
    photos = sorted((root / "ADEChallengeData2016/images/validation").iterdir())
    whole = [photo.read_bytes() for photo in photos]
    photos[0].unlink()
    photos[1].write_bytes(b"x")
    download.download("a150", root, say=lambda _: None)
    assert not photos[0].exists(), "what was unpacked once is passed over"
    # Nor does a kept archive that is damaged itself stand in the way.
    kept = root / "archives" / "ADEChallengeData2016.zip"
    kept.write_bytes(kept.read_bytes()[:-1])
    download.download("a150", root, again=True, say=lambda _: None)
    assert [photo.read_bytes() for photo in photos] == whole


def test_a_file_of_another_size_is_told_of_and_taken(
    server: Server, ade: Source, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = replace(ade.archives[0], size=7, size_from="from memory")
    monkeypatch.setitem(SOURCES, "ade20k", replace(ade, archives=(archive,)))
    told: list[str] = []
    download.download("a150", tmp_path / "root", say=told.append)
    assert "  note: 7 bytes were expected (from memory)" in told
    assert len(build_dataset("a150", "val", tmp_path / "root")) == 2


def test_an_archive_put_there_by_hand_is_checked(server: Server, ade: Source, tmp_path: Path) -> None:
    kept = tmp_path / "root" / "archives" / "ADEChallengeData2016.zip"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(server.files["/ade.zip"] + b"!")
    with pytest.raises(ValueError, match="got sha1"):
        download.download("a150", tmp_path / "root", say=lambda _: None)
    assert not (tmp_path / "root" / "ADEChallengeData2016").exists()
    kept.write_bytes(server.files["/ade.zip"])
    download.download("a150", tmp_path / "root", say=lambda _: None)
    assert len(build_dataset("a150", "val", tmp_path / "root")) == 2 and server.asked == []


def test_no_server_left_says_what_to_do_by_hand(server: Server, ade: Source, tmp_path: Path) -> None:
    server.files.clear()
    with pytest.raises(
        OSError, match=r"404.*404.*Ask a friend\. Put it at .*ADEChallengeData2016\.zip and run this again"
    ):
        download.download("a150", tmp_path / "root", tries=1, say=lambda _: None)


def test_an_archive_of_something_else_is_not_taken_for_the_data_set(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["/ade.zip"] = zipped(tmp_path / "other.zip", {"readme.txt": b"hello"}).read_bytes()
    archive = Archive((f"{server.url}/ade.zip",), "ade.zip", "", ".", ("ADEChallengeData2016/images",))
    monkeypatch.setitem(SOURCES, "ade20k", Source((archive,), "here"))
    with pytest.raises(
        ValueError, match="ADEChallengeData2016/images is not there; expected the official archive"
    ):
        download.download("a150", tmp_path / "root", say=lambda _: None)
    assert not (tmp_path / "root" / "archives" / "ade.zip.json").exists()


def test_where_one_must_register_the_command_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"registration.*Put it at .*archives/ADE20K_2021_17_01\.zip"):
        data_command("download", "a847", root=tmp_path)
    kept = tmp_path / "archives" / "ADE20K_2021_17_01.zip"
    real_data.write_ade_full(tmp_path / "made")
    kept.parent.mkdir()
    shutil.make_archive(str(kept.with_suffix("")), "zip", tmp_path / "made")
    data_command("download", "a847", root=tmp_path)
    assert len(build_dataset("a847", "val", tmp_path)) == 1


def test_context_comes_as_two_archives_and_a_text_file(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the publishers pack them: VOC2010 with its path, trainval/ without, labels.txt as it is."""
    real_data.write_context(tmp_path / "made")
    voc = tmp_path / "made/VOCdevkit/VOC2010"
    server.files["/labels.txt"] = (voc / "labels.txt").read_bytes()
    labels = tarred(
        tmp_path / "l.tar.gz", {f"trainval/{p.name}": p.read_bytes() for p in (voc / "trainval").iterdir()}
    )
    server.files["/trainval.tar.gz"] = labels.read_bytes()
    photos = {
        p.relative_to(tmp_path / "made").as_posix(): p.read_bytes()
        for p in voc.rglob("*")
        if p.is_file() and p.suffix in (".jpg", ".txt")
    }
    server.files["/VOCtrainval_03-May-2010.tar"] = tarred(tmp_path / "v.tar", photos).read_bytes()
    official = SOURCES["pascal_context"]
    local = [Archive((f"{server.url}/{a.name}",), a.name, "", a.into, a.makes) for a in official.archives]
    monkeypatch.setitem(SOURCES, "pascal_context", Source(tuple(local), "here"))
    told: list[str] = []
    download.download("pc59", tmp_path / "root", say=told.append)
    assert len(build_dataset("pc459", "val", tmp_path / "root")) == 2
    assert sum("no digest is published" in line for line in told) == 3


def test_sources_are_complete() -> None:
    assert {entry.source for entry in downloadable().values()} == set(SOURCES)
    for name, source in SOURCES.items():
        assert datasets_of(name) and all(source_of(d) == name for d in datasets_of(name))
        for archive in source.archives:
            length = {"md5": 32, "sha1": 40, "sha256": 64}
            algorithm, _, value = archive.digest.partition(":")
            assert not archive.digest or len(value) == length[algorithm]
            assert archive.makes and (archive.urls or source.by_hand)
    with pytest.raises(ValueError, match="did you mean 'coco_stuff'"):
        source_of("cocostuff")
    with pytest.raises(ValueError, match="needs no download"):
        source_of("collage")


def test_every_number_of_every_official_file_has_an_origin() -> None:
    for name, source in SOURCES.items():
        known = list(facts(name))
        assert all(fact.value and fact.origin for fact in known)
        for archive in source.archives:
            assert [fact.what for fact in known if fact.about == archive.name][-2:] == ["bytes", "digest"]
            assert (archive.size is None) == (archive.size_from == "")
        counted = {fact.about for fact in known if fact.what == "pictures"}
        assert counted == {f"{each} {split}" for each in datasets_of(name) for split in ("train", "val")}
    assert "unknown: the first download prints it" in table("pascal_context")
    assert all(name in table().splitlines() for name in SOURCES)


def test_addresses_and_digests_of_voc_and_sbd_are_torchvisions() -> None:
    from torchvision.datasets import SBDataset
    from torchvision.datasets.voc import DATASET_YEAR_DICT

    for source, year in (("voc", "2012"), ("pascal_context", "2010")):
        archive, known = SOURCES[source].archives[0], DATASET_YEAR_DICT[year]
        assert archive.urls[0] == known["url"] and archive.name == known["filename"]
        assert (
            archive.digest == f"md5:{known['md5']}" and archive.makes[0] == f"{known['base_dir']}/JPEGImages"
        )
    sbd = SOURCES["voc"].archives[1]
    assert (sbd.urls[0], sbd.name, sbd.digest) == (SBDataset.url, SBDataset.filename, f"md5:{SBDataset.md5}")
