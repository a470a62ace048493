"""The supervisor over real processes: what it restarts, what it stops, what is left when it is killed."""

import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.waiting import eventually
from workers.cli import deathsig
from workers.cli.deathsig import WrongThreadError, spawn
from workers.cli.roster import RestartPolicy
from workers.cli.supervisor import Supervisor, SupervisorError

QUICK = RestartPolicy(first_s=0.01, cap_s=0.04, settled_s=30.0)

# Says that it is there, and on SIGTERM that it was asked to go.
POLITE = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print('asked to go'), sys.exit(0)))
print('ready')
while True: signal.pause()
"""

STUBBORN = """
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('ready')
while True: signal.pause()
"""


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-u", "-c", program]


def is_gone(pid: int) -> bool:
    """No such process, or a zombie that only waits for its new parent to look at it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


class Lines:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []

    def __call__(self, name: str, line: str) -> None:
        self.all.append((name, line))

    def of(self, name: str) -> list[str]:
        return [line for who, line in list(self.all) if who == name]

    def wait_for(self, name: str, line: str, times: int = 1) -> None:
        eventually(lambda: sum(line in one for one in self.of(name)) >= times)


@pytest.fixture
def lines():
    return Lines()


@pytest.fixture
def supervisor(lines):
    with Supervisor(lines, restarts=QUICK, grace_s=20.0) as one:
        yield one


class TestRestarts:
    def test_a_process_that_crashes_is_started_again_after_growing_waits(self, supervisor, lines):
        supervisor.start("mad", ["sh", "-c", "echo trying; exit 3"])
        lines.wait_for("mad", "trying", times=4)
        lines.wait_for("supervisor", "exited with 3", times=4)
        waits = re.findall(r"exited with 3 after \S+ s; starts again in (\S+) s", "\n".join(lines.of("supervisor")))
        assert waits[:4] == ["0.01", "0.02", "0.04", "0.04"]

    def test_the_exit_of_one_leaves_the_other_alone(self, supervisor, lines):
        supervisor.start("steady", python(POLITE))
        before = supervisor.pid("steady")
        supervisor.start("mad", ["false"])
        lines.wait_for("supervisor", "mad exited with 1", times=3)
        assert supervisor.pid("steady") == before
        assert not is_gone(before)

    def test_a_killed_process_comes_back_under_another_pid(self, supervisor, lines):
        supervisor.start("chat", python(POLITE))
        killed = supervisor.kill("chat", signal.SIGKILL)
        lines.wait_for("supervisor", "chat died of SIGKILL")
        now = eventually(lambda: supervisor.pid("chat") not in (None, killed) and supervisor.pid("chat"))
        assert now != killed
        assert is_gone(killed)

    def test_a_process_that_waits_for_its_start_has_no_pid(self, lines):
        with Supervisor(lines, restarts=RestartPolicy(first_s=60.0, cap_s=60.0)) as supervisor:
            supervisor.start("mad", ["false"])
            eventually(lambda: supervisor.pid("mad") is None)
            with pytest.raises(SupervisorError, match="mad is not running"):
                supervisor.kill("mad")

    def test_what_a_dead_process_left_in_its_group_goes_with_it(self, supervisor, lines):
        supervisor.start("parent", ["sh", "-c", "sleep 600 & echo $!; exit 1"])
        lines.wait_for("supervisor", "parent exited with 1")
        assert eventually(lambda: is_gone(int(lines.of("parent")[0])))

    def test_a_command_that_cannot_be_executed_says_so_and_is_tried_again(self, supervisor, lines, tmp_path):
        program = tmp_path / "program"
        program.write_text("#!/no/such/interpreter\n")
        program.chmod(0o755)
        supervisor.start("odd", [str(program)])
        lines.wait_for("odd", f"cannot run {program}: No such file or directory", times=2)


class TestOutput:
    def test_stdout_and_stderr_arrive_line_by_line_and_a_last_line_without_end_too(self, supervisor, lines):
        supervisor.start("talker", ["sh", "-c", "echo out; echo err >&2; printf last; exec sleep 600"])
        lines.wait_for("talker", "err")
        supervisor.stop()
        assert lines.of("talker") == ["out", "err", "last"]

    def test_the_last_words_come_before_the_news_of_the_end(self):
        class SlowAtFirst(Lines):
            def __call__(self, name: str, line: str) -> None:
                super().__call__(name, line)
                if line.startswith("pid "):
                    eventually(lambda: is_gone(int(line.split()[1])))

        lines = SlowAtFirst()
        with Supervisor(lines, restarts=RestartPolicy(first_s=60.0, cap_s=60.0)) as supervisor:
            supervisor.start("talker", ["sh", "-c", "echo pid $$; seq 5000; echo why; exit 1"])
            lines.wait_for("supervisor", "talker exited")
            lines.wait_for("talker", "why")
        end = next(place for place, (_, line) in enumerate(lines.all) if line.startswith("talker exited"))
        assert lines.all.index(("talker", "why")) < end

    def test_python_children_do_not_hold_lines_back(self, supervisor, lines):
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        program = "import signal; print('now'); signal.pause()"
        supervisor.start("talker", [sys.executable, "-S", "-c", program], env=environ)
        lines.wait_for("talker", "now")

    def test_a_line_without_end_comes_in_pieces(self, supervisor, lines):
        supervisor.start("mad", python("import signal; print('x' * 200_000, end=''); signal.pause()"))
        lines.wait_for("mad", "x" * 65_536, times=3)

    def test_what_is_no_text_is_shown_all_the_same(self, supervisor, lines):
        supervisor.start("mad", ["printf", r"\377ok\n"])
        lines.wait_for("mad", "�ok")

    def test_a_sink_that_hangs_does_not_keep_the_supervisor_from_stopping(self):
        called, release = threading.Event(), threading.Event()

        def hang(_name: str, _line: str) -> None:
            called.set()
            release.wait()

        supervisor = Supervisor(hang, restarts=QUICK, grace_s=20.0)
        supervisor.start("talker", ["yes"])
        assert called.wait(10)
        pid = supervisor.pid("talker")
        try:
            assert supervisor.stop()
            assert is_gone(pid)
        finally:
            release.set()


class TestStopping:
    def test_each_is_asked_to_go_and_has_the_time_to(self, supervisor, lines):
        for name in ("one", "two"):
            supervisor.start(name, python(POLITE))
            lines.wait_for(name, "ready")
        pids = [supervisor.pid("one"), supervisor.pid("two")]
        assert supervisor.stop()
        assert lines.of("one")[-1] == lines.of("two")[-1] == "asked to go"
        assert all(is_gone(pid) for pid in pids)

    def test_who_does_not_go_within_the_grace_period_is_killed(self, lines):
        supervisor = Supervisor(lines, grace_s=0.1)
        supervisor.start("stubborn", python(STUBBORN))
        lines.wait_for("stubborn", "ready")
        pid = supervisor.pid("stubborn")
        assert not supervisor.stop()
        assert is_gone(pid)
        assert "stubborn is killed, still there after 0.1 s" in lines.of("supervisor")

    def test_after_the_stop_nothing_starts_and_a_second_stop_is_harmless(self, supervisor):
        supervisor.start("one", ["sleep", "600"])
        assert supervisor.stop()
        assert supervisor.stop()
        with pytest.raises(SupervisorError, match="has stopped"):
            supervisor.start("two", ["sleep", "600"])

    def test_a_stop_without_a_start_is_harmless(self):
        assert Supervisor(Lines()).stop()


class TestRefusals:
    def test_a_name_is_there_once(self, supervisor):
        supervisor.start("one", ["sleep", "600"])
        with pytest.raises(SupervisorError, match="'one' is taken"):
            supervisor.start("one", ["sleep", "600"])
        with pytest.raises(SupervisorError, match="'supervisor' is taken"):
            supervisor.start("supervisor", ["sleep", "600"])

    def test_a_command_is_looked_up_in_the_path_it_will_have(self, supervisor):
        with pytest.raises(SupervisorError, match="one: no such command: 'sleep'"):
            supervisor.start("one", ["sleep", "600"], env={"PATH": "/no/such/folder"})

    def test_only_known_processes_and_real_signals_can_be_sent(self, supervisor):
        supervisor.start("one", ["sleep", "600"])
        with pytest.raises(SupervisorError, match="no process 'two'"):
            supervisor.kill("two")
        with pytest.raises(SupervisorError, match="no signal 999"):
            supervisor.kill("one", 999)

    def test_the_environment_and_the_folder_are_the_given_ones(self, supervisor, lines, tmp_path):
        supervisor.start("one", ["sh", "-c", "pwd; echo $A$HOME"], env={"A": "given", "PATH": os.defpath}, cwd=tmp_path)
        lines.wait_for("one", "given")
        assert lines.of("one")[:2] == [str(tmp_path), "given"]


class TestDeathSignal:
    def test_a_child_outlives_the_thread_that_asked_for_it(self, supervisor, lines):
        asking = threading.Thread(target=supervisor.start, args=("one", python(POLITE)))
        asking.start()
        asking.join()
        lines.wait_for("one", "ready")
        supervisor.kill("one", signal.SIGTERM)
        lines.wait_for("one", "asked to go")

    def test_spawn_refuses_a_thread_that_may_end_before_the_process(self):
        caught = []

        def attempt() -> None:
            try:
                spawn(["sleep", "600"], output=subprocess.DEVNULL)
            except WrongThreadError as error:
                caught.append(str(error))

        thread = threading.Thread(target=attempt)
        thread.start()
        thread.join()
        assert caught == ["start sleep from the main thread: Linux kills it when the thread that started it ends"]

    def test_a_child_whose_parent_is_already_dead_does_not_run(self, tmp_path):
        mark = tmp_path / "ran"
        not_our_pid = os.getppid()
        done = subprocess.run([sys.executable, deathsig.__file__, str(not_our_pid), "touch", str(mark)], check=False)
        assert done.returncode == deathsig.CANNOT_RUN
        assert not mark.exists()

    def test_the_command_has_its_own_session_no_input_and_python_s_ignored_signals_back(self):
        process = spawn(["cat", "/proc/self/status", "/proc/self/stat", "-"], output=subprocess.PIPE)
        said = process.communicate(timeout=120)[0].decode()
        ignored = int(re.search(r"SigIgn:\s*(\w+)", said)[1], 16)
        assert [one for one in (signal.SIGPIPE, signal.SIGXFSZ) if ignored & 1 << (one - 1)] == []
        assert said.strip().splitlines()[-1].rpartition(")")[2].split()[3] == str(process.pid)


@pytest.fixture
def run_supervisor(tmp_path):
    """Starts `python -m workers.cli.supervisor` over a Procfile; its pid, output and children can be asked for."""
    started = []

    def start(procfile: str, *options: str, prefix: tuple[str, ...] = ()) -> "Running":
        path = tmp_path / "Procfile"
        path.write_text(procfile)
        # A test run in the background of a script has SIGINT ignored, and would hand that on.
        command = [
            "env",
            "--default-signal=INT,HUP",
            *prefix,
            sys.executable,
            "-m",
            "workers.cli.supervisor",
            str(path),
            *options,
        ]
        environ = {**os.environ, "PYTHON": sys.executable, "POLITE": POLITE, "STUBBORN": STUBBORN}
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environ)
        started.append(process)
        return Running(process)

    yield start
    for process in started:
        process.kill()
        process.communicate(timeout=120)


class Running:
    """A supervisor in a process of its own, and what it has printed."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self.said: list[str] = []

    def read_until(self, words: str) -> str:
        for line in self.process.stdout:
            self.said.append(line)
            if words in line:
                return line
        raise AssertionError(f"{words!r} never came; it said {''.join(self.said)}")

    def read_until_all_are_ready(self, *names: str) -> list[int]:
        while not all(f"{name:<10} | ready\n" in self.said for name in names):
            self.read_until("")
        while len(pids := re.findall(r"started, pid (\d+)", "".join(self.said))) < len(names):
            self.read_until("")
        return [int(pid) for pid in pids]

    def exit_code(self) -> int:
        self.said.extend(self.process.stdout)
        return self.process.wait(timeout=120)


class TestAsAProgram:
    BOTH = "polite: $PYTHON -S -u -c $POLITE\nstubborn: $PYTHON -S -u -c $STUBBORN\n"
    POLITE = "polite: $PYTHON -S -u -c $POLITE\n"

    def test_a_killed_supervisor_leaves_no_process_behind(self, run_supervisor):
        running = run_supervisor(self.BOTH)
        pids = running.read_until_all_are_ready("polite", "stubborn")
        assert not any(is_gone(pid) for pid in pids)
        running.process.kill()
        eventually(lambda: all(is_gone(pid) for pid in pids))

    @pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
    def test_a_signal_is_handed_on_as_a_request_to_stop(self, run_supervisor, signum):
        running = run_supervisor(self.POLITE)
        [pid] = running.read_until_all_are_ready("polite")
        running.process.send_signal(signum)
        assert running.exit_code() == 0
        assert "polite     | asked to go\n" in running.said
        assert is_gone(pid)

    def test_an_ignored_hangup_stays_ignored(self, run_supervisor):
        running = run_supervisor(self.POLITE, prefix=("sh", "-c", 'trap "" HUP; exec "$@"', "sh"))
        [pid] = running.read_until_all_are_ready("polite")
        running.process.send_signal(signal.SIGHUP)
        os.kill(pid, signal.SIGKILL)
        running.read_until("polite died of SIGKILL")
        running.read_until("polite started")
        running.process.terminate()
        assert running.exit_code() == 0

    def test_a_second_interrupt_kills_at_once(self, run_supervisor):
        running = run_supervisor("stubborn: $PYTHON -S -u -c $STUBBORN\n", "--grace", "600")
        [pid] = running.read_until_all_are_ready("stubborn")
        running.process.send_signal(signal.SIGINT)
        running.read_until("stopping stubborn; at most 600 s")
        running.process.send_signal(signal.SIGINT)
        assert running.exit_code() == 1
        assert is_gone(pid)

    def test_lines_are_prefixed_by_the_name(self, run_supervisor):
        running = run_supervisor("chat: sh -c 'echo hello; exec sleep 600'\n")
        assert running.read_until("hello") == "chat       | hello\n"

    @pytest.mark.parametrize(
        ("procfile", "why"),
        [
            ("chat celery\n", "Procfile line 1: expected 'name: command'"),
            ("chat: no-such-program-anywhere\n", "chat: no such command: 'no-such-program-anywhere'"),
            ("# nothing\n", "there is nothing to run"),
        ],
    )
    def test_a_procfile_that_cannot_be_run_ends_with_its_reason(self, run_supervisor, procfile, why):
        running = run_supervisor(procfile)
        assert running.exit_code() == 2
        assert why in "".join(running.said)
