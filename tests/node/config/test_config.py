"""Where settings come from, who wins, and what a bad one is answered with."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.config.schema import load_config, setting_paths
from node.config.settings import parse_location, parse_size
from node.errors import InputError
from tests.paths import ROOT


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path) -> None:
    file = write(
        tmp_path / "c.toml",
        'http_port = 1\nlog_level = "error"\nregion = "file"\n'
        '[worker]\nvram = "1GiB"\nthreads = 3\n',
    )
    environment = {"PRIME_NODE_HTTP_PORT": "2", "PRIME_NODE_LOG_LEVEL": "debug"}
    config = load_config(
        {"http_port": 3, "worker": {"vram": "2GiB"}}, config_file=file, environment=environment
    )
    assert config.http_port == 3
    assert config.log_level == "debug"
    assert config.region == "file"
    assert config.worker.vram == 2 * 2**30
    assert config.worker.threads == 3
    assert config.http_host == "127.0.0.1"


def test_environment_reaches_sections_and_lists() -> None:
    config = load_config(
        {},
        environment={
            "PRIME_NODE_ROLES": "worker, validator,worker",
            "PRIME_NODE_ORCHESTRATOR__STAGES": "3",
            "PRIME_NODE_WORKER__FAULT": "null-proofs",
            "PRIME_NODE_LOCATION": "52.5,13.4",
            "PRIME_NODE_PASSPHRASE": "not a setting, and no error",
        },
    )
    assert config.roles == ("worker", "validator")
    assert config.orchestrator.stages == 3
    assert config.worker.fault == "null-proofs"
    assert config.location == (52.5, 13.4)


def test_the_data_folders_file_is_read_by_default(tmp_path: Path) -> None:
    write(tmp_path / "config.toml", "http_port = 1234\n")
    assert load_config({"data_dir": tmp_path}, environment={}).http_port == 1234
    by_variable = load_config({}, environment={"PRIME_NODE_DATA_DIR": str(tmp_path)})
    assert by_variable.http_port == 1234
    assert by_variable.data_dir == tmp_path


def test_a_relative_path_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config({"data_dir": "here", "network_file": "net.toml"}, environment={})
    assert config.data_dir == tmp_path / "here"
    assert config.network_file == tmp_path / "net.toml"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("htp_port = 1", r"unknown key htp_port \(did you mean http_port\?\)"),
        ("[worker]\nvramm = 1", r"unknown key worker.vramm \(did you mean worker.vram\?\)"),
        ("qqq = 1", r"unknown key qqq \(known here: .*http_port"),
        ("worker = 1", "worker is a section"),
        ("http_port = 70000", "http_port: .*65536.*70000"),
        ("http_port = [", "not valid TOML"),
        ('[worker]\nvram = "lots"', "worker.vram: a size is like"),
        ('roles = ["cook"]', "roles: .*'cook'"),
        ("roles = []", "roles: .*at least 1"),
        ('[orchestrator]\nstages = "few"', "orchestrator.stages: .*'few'"),
        ("[orchestrator]\nstages = 0", "orchestrator.stages"),
    ],
)
def test_a_bad_file_is_named_with_the_key(tmp_path: Path, text: str, said: str) -> None:
    file = write(tmp_path / "bad.toml", text)
    with pytest.raises(InputError, match=said) as caught:
        load_config({}, config_file=file, environment={})
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("flags", "environment", "said"),
    [
        ({"roles": ["cook"]}, {}, "^--role: "),
        ({"worker": {"device": "gpu"}}, {}, "^--device: a device is"),
        ({"bootstrap": ["/ip4/1.2.3.4/tcp/1"]}, {}, "^--bootstrap: .*with a peer id"),
        ({"listen": ["localhost:4001"]}, {}, "^--listen: .*multiaddr like"),
        ({"listen": ["/ip4/1.2.3.4/tcp/65536"]}, {}, "^--listen: "),
        ({}, {"PRIME_NODE_HTTP_PORT": "x"}, "^environment: PRIME_NODE_HTTP_PORT: .*'x'"),
        ({}, {"PRIME_NODE_WORKER__VRAM": "x"}, "^environment: PRIME_NODE_WORKER__VRAM: "),
        ({}, {"PRIME_NODE_HTTPPORT": "1"}, "did you mean PRIME_NODE_HTTP_PORT"),
    ],
)
def test_the_source_of_a_bad_value_is_named(
    flags: dict[str, object], environment: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        load_config(flags, environment=environment)


def test_a_config_file_that_is_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        load_config({}, config_file=tmp_path / "none.toml", environment={})


def test_every_setting_has_a_distinct_path() -> None:
    paths = list(setting_paths())
    assert ("worker", "vram") in paths
    assert ("worker",) not in paths
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize(
    ("text", "size"),
    [("8GiB", 2**33), ("500 MB", 5 * 10**8), ("1.5k", 1500), ("auto", 0), (7, 7), ("12", 12)],
)
def test_sizes(text: object, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1iB", "8 GiBs", "1e3", -1, 2**63, True, None, 1.5])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError):
        parse_size(text)


@given(st.floats(-90, 90), st.floats(-180, 180))
def test_a_location_survives_its_text(latitude: float, longitude: float) -> None:
    assert parse_location(f"{latitude!r},{longitude!r}") == (latitude, longitude)


@pytest.mark.parametrize("text", ["1", "1,2,3", "a,b", "91,0", "0,181", "nan,0", 5, [1, None]])
def test_what_is_no_location(text: object) -> None:
    with pytest.raises(ValueError):
        parse_location(text)


def test_a_policy_is_written_as_people_do(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[policy]\npools = [3, 8]\ngas_per_day = "0.005 ether"\ndisk = "20GiB"\n'
        'hours = ["22:00-06:30", "12:00-24:00"]\nmodels = ["smollm2"]\n'
    )
    policy = load_config({}, config_file=file, environment={}).policy
    assert policy.pools == (3, 8)
    assert policy.gas_per_day == 5 * 10**15
    assert policy.hours == ((22 * 60, 6 * 60 + 30), (12 * 60, 0))
    assert policy.models == ("smollm2",)
    assert load_config({}, config_file=None, environment={"PRIME_NODE_DATA_DIR": str(tmp_path)})
    from_variables = load_config(
        {"policy": {"min_price": 7}},
        config_file=file,
        environment={
            "PRIME_NODE_POLICY__POOLS": "any",
            "PRIME_NODE_POLICY__REFUSED_POOLS": "4,5",
            "PRIME_NODE_POLICY__HOURS": "1:00-2:00,3:00-4:00",
            "PRIME_NODE_POLICY__GAS_PER_DAY": "2 gwei",
            "PRIME_NODE_POLICY__MIN_PRICE": "6",
        },
    ).policy
    assert from_variables.pools == "any"
    assert from_variables.refused_pools == (4, 5)
    assert from_variables.hours == ((60, 120), (180, 240))
    assert from_variables.gas_per_day == 2 * 10**9
    assert from_variables.min_price == 7
    assert from_variables.disk == 20 * 2**30


@pytest.mark.parametrize(
    "setting",
    [
        {"hours": ["25:00-1:00"]},
        {"hours": ["24:30-1:00"]},
        {"hours": ["at night"]},
        {"pools": ["some"]},
        {"pools": [-1]},
        {"gas_per_day": "0.5 wei"},
        {"gas_per_day": "0.1 gwei 2"},
        {"min_price": -1},
    ],
)
def test_what_is_no_policy(setting: dict[str, object]) -> None:
    with pytest.raises(InputError):
        load_config({"policy": setting}, environment={})


def test_the_reference_lists_every_setting_with_its_variable() -> None:
    text = (ROOT / "docs" / "reference" / "config.md").read_text()
    for path in setting_paths():
        assert f"| `{path[-1]}` |" in text
        assert f"`PRIME_NODE_{'__'.join(path).upper()}`" in text
