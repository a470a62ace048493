"""The plugins of every test run; fixtures live in tests/conftest.py."""

pytest_plugins = ["tests.requirement_plugin", "pytester"]
