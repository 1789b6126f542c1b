"""Hard places: what is said of each, and by `serve` before anything starts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from serve_app.cli import running
from serve_app.cli.doctor import examine
from serve_app.cli.places import (
    check_cluster,
    check_log_file,
    check_notes,
    check_open_files,
    check_places,
    check_proxies,
    check_rays_folder,
    check_weights_cache,
)
from serve_app.cli.ray_env import MAX_FOLDER_BYTES, SHORT_PLACES, connections, rays_folder
from serve_app.cli.serve import serve
from tests.serve_app.cli.conftest import write_config
from tests.support.ports import free_port

SMALL_MB = 1

TELLS = """
import json, sys
from pathlib import Path
from serve_app.cli.places import check_log_file, check_rays_folder, check_weights_cache
for folder in sys.argv[1:]:
    ray, log = check_rays_folder({"RAY_TMPDIR": folder}), check_log_file(Path(folder) / "log")
    cache = check_weights_cache("owner/name", Path(folder) / "hub")
    print(json.dumps([[finding.ok, str(finding)] for finding in (ray, log, cache)]))
"""

MOUNTED = f"""
mount -t tmpfs -o size={SMALL_MB}m small "$1" && mount -t tmpfs -o ro,size=64m full "$2" || exit
exec "$PYTHON" -c "$TELLS" "$1" "$2"
"""
UNSHARE = shutil.which("unshare")


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder in which Ray's sockets would have room; pytest's paths are too long."""
    with tempfile.TemporaryDirectory(prefix="ia-", dir="/tmp") as name:
        yield Path(name)


@pytest.mark.skipif(UNSHARE is None, reason="needs util-linux")
def test_a_folder_that_is_full_or_read_only_is_told_with_what_moves_it(short_folder: Path) -> None:
    """Told before Ray, the hub's library and the log meet it."""
    small, read_only = short_folder / "small", short_folder / "ro"
    for folder in (small, read_only):
        folder.mkdir()
    done = subprocess.run(
        [str(UNSHARE), *([] if os.geteuid() == 0 else ["-Ur"]), "-m", "sh", "-c", MOUNTED, "sh", small, read_only],
        env={**os.environ, "PYTHON": sys.executable, "TELLS": TELLS},
        capture_output=True,
        text=True,
    )
    if not done.stdout:
        pytest.skip(f"this user may mount nothing here: {done.stderr}")
    for line, fault in zip(done.stdout.splitlines(), ("MB needed", "read-only"), strict=True):
        for (ok, told), variable in zip(json.loads(line), ("RAY_TMPDIR", "--log-file", "HF_HOME"), strict=True):
            assert (ok, fault in told, variable in told) == (False, True, True), told


@pytest.mark.parametrize("named", ["a" * 100, "b" * MAX_FOLDER_BYTES, "é" * 20, "\udce9"])
def test_a_ray_whose_sockets_would_not_fit_is_given_a_short_folder(named: str) -> None:
    chosen = rays_folder({"TMPDIR": f"/{named}", "RAY_TMPDIR": ""})
    assert chosen in SHORT_PLACES
    assert f"{chosen}, since the path /" in check_rays_folder({"RAY_TMPDIR": f"/{named}"}).detail


def test_any_other_stays_where_the_user_has_it(tmp_path: Path) -> None:
    longest = "/" + "a" * (MAX_FOLDER_BYTES - 1)
    assert rays_folder({"TMPDIR": "/a", "RAY_TMPDIR": longest}) == longest
    assert rays_folder({"TMPDIR": "/é"}) == "/é"
    assert rays_folder({}) == SHORT_PLACES[0]


@pytest.mark.parametrize(("files", "asked"), [(256, 76), (1024, 384), (4096, 1612), (20000, 4096), (10, 1)])
def test_haproxy_is_asked_for_no_more_than_may_be_opened(files: int, asked: int) -> None:
    assert connections(files) == asked


def test_too_few_files_are_told() -> None:
    assert check_open_files(1024).ok
    assert "ulimit -n" in check_open_files(128).remedy


def test_a_dead_cluster_is_told_within_seconds_with_its_variable() -> None:
    address = f"127.0.0.1:{free_port()}"
    finding = check_cluster(address, {})
    assert (finding.ok, finding.detail) == (
        False,
        f"no Ray answers at {address}, which RAY_ADDRESS names (Connection refused)",
    )
    assert "unset RAY_ADDRESS" in finding.remedy


@pytest.mark.parametrize("record", ["", "127.0.0.1:1\n", "nonsense:port"])
def test_so_is_the_one_that_has_left_its_address_on_this_machine(record: str, tmp_path: Path) -> None:
    (tmp_path / "ray").mkdir()
    if record:
        (tmp_path / "ray" / "ray_current_cluster").write_text(record)
    assert not check_cluster("auto", {"RAY_TMPDIR": str(tmp_path)}).ok


@pytest.mark.parametrize("address", ["http://proxy:3128", "proxy:3128", ""])
def test_a_proxy_is_none_of_ours_to_judge(address: str) -> None:
    assert [*check_proxies({"http_proxy": address})] == []


@pytest.mark.parametrize(
    ("address", "fault"), [("socks5://proxy:1080", "SOCKS"), ("ftp://proxy", "no proxy's address")]
)
def test_one_that_no_package_can_speak_to_is_told(address: str, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)
    (finding,) = check_proxies({"ALL_PROXY": address})
    assert (fault in finding.detail, "unset ALL_PROXY" in finding.remedy) == (True, True)


def test_a_log_file_needs_a_folder_and_is_none(tmp_path: Path) -> None:
    assert check_log_file(tmp_path / "log").ok
    assert f"{tmp_path} is a folder" in check_log_file(tmp_path).detail
    assert f"there is no folder {tmp_path}/no" in check_log_file(tmp_path / "no" / "log").detail


def test_a_user_without_a_home_is_told_to_name_one() -> None:
    assert "set HOME, or HF_HOME" in check_weights_cache("owner/name", Path("~/.cache")).remedy


def test_a_folder_of_another_s_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert check_notes().ok
    running.folder().chmod(0o777)
    assert "not this user's alone" in check_notes().detail


def test_serve_refuses_in_the_words_of_the_doctor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    address = f"127.0.0.1:{free_port()}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    config = write_config(tmp_path, port=free_port())
    assert serve(config, start_timeout_s=1) == 2
    told = capsys.readouterr().err
    for finding in examine(config):
        assert finding.name != "Config", "the doctor looks at the config first"
        if not finding.ok:
            assert told == f"image-analyzer: {finding.sentence}\n"
            break


def test_where_nothing_is_amiss_nothing_is_told() -> None:
    assert [finding for finding in check_places({}) if not finding.ok] == []
