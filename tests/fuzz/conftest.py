import pytest
from trials import OUTCOMES, TRIALS


@pytest.fixture(scope="session", autouse=True)
def report(pytestconfig):
    """Say how many trials there were, after a long run."""
    yield
    if TRIALS:
        parts = ", ".join(f"{count:,} {what}" for what, count in OUTCOMES.most_common())
        terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
        terminal.write_line(f"\n{OUTCOMES.total():,} trials: {parts}")
