"""Where the state of a user lives."""

from pathlib import Path

import pytest

from workers.settings import state_folder

HOME = Path.home() / ".local" / "state" / "fireworks-workers"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"FW_STATE_DIR": "/var/fw", "XDG_STATE_HOME": "/xdg"}, Path("/var/fw")),
        ({"FW_STATE_DIR": "~/fw"}, Path.home() / "fw"),
        ({"XDG_STATE_HOME": "/xdg"}, Path("/xdg/fireworks-workers")),
        ({"XDG_STATE_HOME": "relative"}, HOME),
        ({"FW_STATE_DIR": "", "XDG_STATE_HOME": ""}, HOME),
        ({}, HOME),
    ],
)
def test_the_own_variable_wins_then_xdg_then_the_home_folder(environ, expected):
    assert state_folder(environ) == expected
