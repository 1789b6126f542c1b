"""Where fast mode is chosen, and what it asks of the environment."""

from __future__ import annotations

import shutil
import socket
import stat
import sys
from pathlib import Path

import pytest

from serve_app.cli.ray_env import (
    AUTH_MODE,
    AUTH_TOKEN,
    BINARY,
    CONNECTIONS,
    FAST,
    FLAGS,
    INTERNAL_PORTS,
    ON_THIS_MACHINE,
    SWITCH,
    NotHere,
    chosen_mode,
    connections,
    find_haproxy,
    joined_cluster,
    open_files,
    rays_own,
    with_flags,
)
from tests.support.ports import free_port

HOST = "127.0.0.1"

linux = pytest.mark.skipif(sys.platform != "linux", reason="Ray runs HAProxy on Linux only")


@pytest.fixture
def program(tmp_path: Path) -> str:
    """A program that could be HAProxy."""
    path = tmp_path / "haproxy"
    path.touch(0o700)
    return str(path)


@pytest.mark.parametrize(
    ("environment", "bundled"),
    [({}, "{program}"), ({BINARY: "{program}"}, "/other"), ({"PATH": "{folder}"}, "/none")],
    ids=["came with Ray", "named by the user", "the system's"],
)
def test_haproxy_is_found(environment: dict[str, str], bundled: str, program: str) -> None:
    def filled(text: str) -> str:
        return text.format(program=program, folder=Path(program).parent)

    given = {name: filled(value) for name, value in environment.items()}
    assert find_haproxy(HOST, given, platform="linux", bundled=filled(bundled)) == program


@pytest.mark.parametrize(
    ("host", "environment", "platform", "bundled", "told"),
    [
        *((host, {}, "linux", "", host) for host in ("192.168.1.5", "127.0.0.2", "::1", "::")),
        *((HOST, {SWITCH: value}, "linux", "", SWITCH) for value in ("0", "", "false")),
        (HOST, {}, "darwin", "", "Linux only"),
        (HOST, {"PATH": ""}, "linux", "/none", "no program /none"),
        (HOST, {BINARY: "/none"}, "linux", "", "no program /none"),
    ],
)
def test_without_haproxy_where_it_would_look_in_vain_or_switched_off_the_mode_is_plain(
    host: str, environment: dict[str, str], platform: str, bundled: str, told: str, program: str
) -> None:
    with pytest.raises(NotHere, match=told):
        find_haproxy(host, environment, platform=platform, bundled=bundled or program)


@linux
def test_without_a_place_for_its_files_neither(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve_app.cli.ray_env.SHORT_PLACES", ("/proc", "/none"))
    with chosen_mode(HOST, 8000, {BINARY: program}) as mode:
        assert "none of /proc, /none has room" in mode.plain_because


@linux
def test_haproxy_is_asked_for_what_may_be_opened(program: str) -> None:
    with chosen_mode(HOST, 8000, {BINARY: program}) as mode:
        assert mode.environment[CONNECTIONS] == str(connections(open_files()))


def test_plain_mode_leaves_the_environment_alone_but_for_the_switch() -> None:
    with chosen_mode("::1", 8000, {"HOME": "/h", SWITCH: "1"}) as mode:
        assert mode.plain_because
        assert mode.environment == {"HOME": "/h", SWITCH: "0"}


@linux
def test_the_flags_give_way_to_the_users_environment(program: str) -> None:
    user = {BINARY: program, "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60", "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "7"}
    with chosen_mode(HOST, 8000, user) as mode:
        assert not mode.plain_because
        assert {name: mode.environment[name] for name in FAST} == {**FAST, "RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S": "60"}
        assert mode.environment["RAY_SERVE_FALLBACK_PROXY_HTTP_PORT"] == "7"


def test_the_docs_name_the_flags() -> None:
    docs = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text()
    flags = {**FAST, **FLAGS, **ON_THIS_MACHINE}
    assert not [name for name, value in flags.items() if f"{name}={value}".rstrip("=") not in docs]


def test_what_the_user_has_set_stays_and_the_machine_s_own_addresses_need_no_proxy() -> None:
    assert with_flags({})["OMP_WAIT_POLICY"] == "passive"
    users = {"OMP_WAIT_POLICY": "active", "HOME": "/h"}
    assert with_flags(users).items() >= users.items()
    proxied = with_flags({"http_proxy": "http://proxy:3128", "no_proxy": "intranet"})
    assert proxied["no_proxy"].split(",") == ["intranet", "localhost", "127.0.0.1", "::1"]
    assert "127.0.0.1" in proxied["NO_PROXY"]


def test_a_ray_of_our_own_asks_for_a_token_that_nobody_else_has() -> None:
    one, another = with_flags({}), with_flags({})
    assert one[AUTH_MODE] == "token"
    assert len({one[AUTH_TOKEN], another[AUTH_TOKEN]}) == 2
    assert AUTH_TOKEN not in with_flags({AUTH_MODE: "disabled"})
    assert with_flags({AUTH_TOKEN: "mine"})[AUTH_TOKEN] == "mine"


@pytest.mark.parametrize(("address", "joined"), [("", ""), ("local", ""), ("10.0.0.1:6379", "10.0.0.1:6379")])
def test_only_ray_address_names_a_cluster_to_join(address: str, joined: str) -> None:
    environment = {"RAY_ADDRESS": address}
    assert joined_cluster(environment) == joined
    assert (AUTH_TOKEN in with_flags(environment)) is not bool(joined)


def test_another_terminal_is_told_of_rays_variables_alone() -> None:
    assert rays_own({"RAY_AUTH_TOKEN": "t", "IMAGE_ANALYZER_API_KEYS": "secret"}) == {"RAY_AUTH_TOKEN": "t"}


@linux
def test_haproxys_files_are_this_users_alone_and_gone_afterwards(program: str) -> None:
    with chosen_mode(HOST, 8000, {BINARY: program}) as mode:
        folder = Path(mode.environment[BINARY]).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert shutil.which(mode.environment[BINARY])
        for name in ("CONFIG_FILE_LOC", "SOCKET_PATH", "METRICS_SOCKET_PATH", "SERVER_STATE_FILE"):
            assert Path(mode.environment[f"RAY_SERVE_HAPROXY_{name}"]).parent == folder
        with chosen_mode(HOST, 8000, {BINARY: program}) as second:
            assert Path(second.environment[BINARY]).parent != folder
    assert not folder.exists()


@linux
def test_a_taken_port_is_passed_by(program: str) -> None:
    user, port = {BINARY: program}, free_port()
    with chosen_mode(HOST, port, user) as mode:
        chosen = {name: int(mode.environment[name]) for name in INTERNAL_PORTS}
    for name, taken in chosen.items():
        with socket.create_server((HOST, taken)), chosen_mode(HOST, port, user) as mode:
            assert int(mode.environment[name]) == taken + 1
