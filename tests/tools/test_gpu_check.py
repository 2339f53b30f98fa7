"""Tests of tools/gpu_check without a GPU: fake programs stand for nvidia-smi, the tests, duet and compute-sanitizer.

    python3 tests/tools/test_gpu_check.py
"""
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMI = 'echo "NVIDIA H100 80GB HBM3, 580.65.06, 81559 MiB, 9.0, 700.00 W"'
GTEST = """echo "[==========] Running 2 tests from 1 test suite."
echo "[==========] 2 tests from 1 test suite ran. (12 ms total)"
echo "[  PASSED  ] 2 tests."
"""
FAILING = """echo "[  FAILED  ] Rows/DeviceOpTable.ValuesMatchTheNaiveLoop/softmax, where GetParam() = x (3 ms)"
echo "[  PASSED  ] 1 test."
echo "[  FAILED  ] 1 test, listed below:"
echo "[  FAILED  ] Rows/DeviceOpTable.ValuesMatchTheNaiveLoop/softmax, where GetParam() = x"
exit 1
"""
# Runs what it is given, as the real one does.
SANITIZER = """case "$1" in --version) echo "2025.3"; exit 0;; esac
while [ $# -gt 0 ]; do case "$1" in *test_*) break;; esac; shift; done
echo "========= COMPUTE-SANITIZER"
"$@"
echo "========= ERROR SUMMARY: 0 errors"
"""
STEP = {"size": "mini", "dtype": "bfloat16", "device": "cuda:0", "batch": 32, "seq": 24, "step_seconds": 0.0125,
        "forward_seconds": 0.004, "backward_seconds": 0.008, "clip_seconds": 0.0005, "optimizer_seconds": 0.001, "samples_per_second": 2560.0,
        "gflops": 1234.5, "fraction_of_peak": 0.25, "peak_device_bytes": 1 << 30}
KERNELS = [{"op": "linear", "kernel": "matmul", "calls": 2, "seconds": 0.004},
           {"op": "linear", "kernel": "activation", "calls": 3, "seconds": 0.001}]
DUET = f"""echo "device    cuda:0" >&2
case "$1" in
  info) echo '{{"devices": [{{"name": "cpu"}}, {{"name": "cuda:0", "model": "H100", "versions": "13.0"}}], "cuda": null}}';;
  bench) case "$*" in
    *--profile*) echo '{json.dumps({**STEP, "kernels": KERNELS})}';;
    *) echo '{json.dumps(STEP)}';;
  esac;;
esac
"""
# The comparison is a Python program started with --python, and so is the question for PyTorch.
NO_TORCH = """echo "ModuleNotFoundError: No module named 'torch'" >&2; exit 1
"""
TORCH = """case "$1" in
  -c) echo '{"torch": "2.11.0", "cuda": "13.0", "available": true, "device": "H100"}';;
  *) echo "round 1: duet 12 ms" >&2
     echo '{"size": "mini", "dtype": "bfloat16", "batch": 32, "mode": "'$(echo "$@" | grep -q compile && echo compiled || echo eager)'",
     "x": 1}' | tr -d '\\n' | sed 's/"x": 1/"torch_over_duet": {"median": 1.5, "low": 1.4, "high": 1.6}, "duet": {"step_seconds": {"median": 0.0125}}, "torch": {"step_seconds": {"median": 0.01875}}/'
     echo;;
esac
"""
SHORT = ["--cases", "mini:bfloat16:32", "--tests", "test_cuda"]


class Machine:
    """A folder of fake programs, the only ones in PATH besides the system's own."""

    def __init__(self, folder, **programs):
        self.folder = Path(folder)
        self.bin, self.out = self.folder / "bin", self.folder / "report"
        self.bin.mkdir()
        self.add(**{"nvidia-smi": SMI, "nvcc": "echo 'release 13.0'", "compute-sanitizer": SANITIZER, "duet": DUET,
                    "test_cuda": GTEST, "python": NO_TORCH, **programs})

    def add(self, **programs):
        for name, script in programs.items():
            path = self.bin / name
            if script is None:
                path.unlink(missing_ok=True)
                continue
            path.write_text("#!/bin/sh\n" + script)
            path.chmod(0o755)

    def command(self, *arguments):
        return [sys.executable, str(ROOT / "tools/gpu_check"), "--bin-dir", str(self.bin), "--out", str(self.out),
                "--python", str(self.bin / "python"), *arguments]

    def environment(self):
        return {**os.environ, "PATH": f"{self.bin}:/usr/bin:/bin"}

    def run(self, *arguments):
        return subprocess.run(self.command(*arguments), env=self.environment(), capture_output=True, text=True, timeout=120)

    def report(self):
        return json.loads((self.out / "report.json").read_text())

    def steps(self):
        return {s["name"]: s for s in self.report()["steps"]}

    def page(self):
        return (self.out / "report.md").read_text()


def ended(pid):
    """Whether the process is gone, or a zombie that nobody has waited for."""
    for _ in range(100):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z":
                return True
        except FileNotFoundError:
            return True
        time.sleep(0.05)
    return False


class GpuCheck(unittest.TestCase):
    def setUp(self):
        self.scratch = tempfile.TemporaryDirectory()
        self.addCleanup(self.scratch.cleanup)

    def machine(self, **programs):
        return Machine(self.scratch.name, **programs)

    def test_everything_passes(self):
        m = self.machine(python=TORCH)
        done = m.run(*SHORT)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        steps = m.steps()
        self.assertEqual({n for n, s in steps.items() if s["status"] != "passed"}, set())
        self.assertEqual(steps["tests.test_cuda"]["numbers"], {"passed": 2, "skipped": 0, "failed": 0, "tests_seconds": 0.012})
        self.assertEqual(steps["step.mini.bfloat16.b32"]["numbers"]["step_seconds"], 0.0125)
        self.assertEqual(steps["sanitizer.memcheck.test_cuda"]["numbers"]["errors"], 0)
        self.assertIn("--compile", steps["pytorch.mini.bfloat16.b32.compiled"]["command"])
        page = m.page()
        for words in ("NVIDIA H100 80GB HBM3, compute capability 9.0", "0 failed", "| mini | bfloat16 | 32 | 24 |  | 12.50 |",
                      "| mini | bfloat16 | 32 | 24 | cuDNN's layer norm | 12.50 |",
                      "| mini | bfloat16 | 32 | compiled | 12.50 | 18.75 | 1.50 (1.40-1.60) |",
                      "| linear | matmul | 2 | 4.000 | 80.0 |", "| mini.bfloat16.b32 | together | 5 | 5.000 | 100.0 |"):
            self.assertIn(words, page)
        self.assertEqual(m.report()["state"], "finished")

    def test_a_failing_test_program(self):
        m = self.machine(test_cuda=FAILING)
        done = m.run(*SHORT)
        self.assertEqual(done.returncode, 1)
        steps = m.steps()
        self.assertEqual(steps["tests.test_cuda"]["status"], "failed")
        self.assertIn("DeviceOpTable.ValuesMatchTheNaiveLoop/softmax", steps["tests.test_cuda"]["reason"])
        self.assertEqual(steps["sanitizer.memcheck.test_cuda"]["status"], "failed")
        self.assertEqual(steps["step.mini.bfloat16.b32"]["status"], "passed")  # later steps still run
        self.assertIn("## Failed", m.page())

    def test_a_crash_is_a_failure_that_says_so(self):
        m = self.machine(test_cuda='echo "[  PASSED  ] 2 tests."; kill -SEGV $$')
        self.assertEqual(m.run(*SHORT).returncode, 1)
        self.assertIn("signal 11", m.steps()["tests.test_cuda"]["reason"])

    def test_a_program_without_tests_is_a_failure(self):
        m = self.machine(test_cuda="exit 0")
        self.assertEqual(m.run(*SHORT).returncode, 1)
        self.assertEqual(m.steps()["tests.test_cuda"]["reason"], "no test ran")

    def test_skipped_programs_are_not_called_passed(self):
        m = self.machine(test_cuda="echo 'skipped: [cuda] the driver shows no GPU'; exit 77",
                         test_other="echo '[  PASSED  ] 0 tests.'; echo '[  SKIPPED ] 7 tests, listed below:'")
        self.assertEqual(m.run("--only", "tests", "--tests", "test_cuda,test_other").returncode, 0)
        steps = m.steps()
        self.assertEqual(steps["tests.test_cuda"]["status"], "skipped")
        self.assertIn("the driver shows no GPU", steps["tests.test_cuda"]["reason"])
        self.assertEqual(steps["tests.test_other"]["reason"], "all 7 tests skipped themselves")
        self.assertIn("3 did not run", m.page())  # with the tests of cuDNN's layer norm

    def test_a_hanging_program_is_stopped_with_its_children(self):
        pid = Path(self.scratch.name) / "pid"
        m = self.machine(test_cuda=f"trap '' TERM; sleep 600 & echo $! > {pid}; echo begun; wait; sleep 600")
        start = time.time()
        self.assertEqual(m.run("--only", "tests,step", *SHORT, "--limit", "tests=1").returncode, 1)
        self.assertLess(time.time() - start, 60)
        steps = m.steps()
        self.assertEqual(steps["tests.test_cuda"]["reason"], "was stopped after its limit of 1 seconds")
        self.assertIn("begun", steps["tests.test_cuda"]["tail"])
        self.assertEqual(steps["step.mini.bfloat16.b32"]["status"], "passed")
        self.assertTrue(ended(int(pid.read_text())))

    def test_the_budget_ends_everything_without_a_failure(self):
        m = self.machine(test_cuda="sleep 600")
        self.assertEqual(m.run("--only", "tests,step", *SHORT, "--budget", "3").returncode, 0)
        steps = m.steps()
        self.assertEqual(steps["tests.test_cuda"]["status"], "skipped")
        self.assertIn("--budget", steps["tests.test_cuda"]["reason"])
        self.assertIn("--budget", steps["step.mini.bfloat16.b32"]["reason"])

    def test_findings_of_compute_sanitizer(self):
        found = GTEST + 'echo "========= Invalid __global__ read of size 4 bytes"; echo "========= ERROR SUMMARY: 3 errors"; exit 86'
        races = GTEST + ('echo "========= Warning: Race reported"; '
                         'echo "========= RACECHECK SUMMARY: 1 hazard displayed (0 errors, 1 warning)"')
        script = f'case "$*" in --version) exit 0;; *memcheck*) {found};; *racecheck*) {races};; *initcheck*) {GTEST};; ' \
                 f'*) {GTEST} echo "========= ERROR SUMMARY: 0 errors";; esac'
        m = self.machine(**{"compute-sanitizer": script.replace("\n;", ";")})
        self.assertEqual(m.run("--only", "sanitizer", *SHORT).returncode, 1)
        steps = m.steps()
        self.assertIn("3 errors or hazards; the first: Invalid __global__ read", steps["sanitizer.memcheck.test_cuda"]["reason"])
        self.assertEqual(steps["sanitizer.racecheck.test_cuda"]["numbers"]["hazards"], 1)
        self.assertEqual(steps["sanitizer.racecheck.test_cuda"]["status"], "failed")
        self.assertIn("no summary", steps["sanitizer.initcheck.test_cuda"]["reason"])
        self.assertEqual(steps["sanitizer.synccheck.test_cuda"]["status"], "passed")

    def test_what_is_not_installed_is_skipped_with_a_reason(self):
        m = self.machine(**{"compute-sanitizer": None, "nvcc": None})
        self.assertEqual(m.run(*SHORT).returncode, 0)
        steps = m.steps()
        self.assertIn("compute-sanitizer is not installed", steps["sanitizer.memcheck.test_cuda"]["reason"])
        self.assertIn("this Python has no torch", steps["pytorch.mini.bfloat16.b32.eager"]["reason"])

    def test_without_a_gpu(self):
        for smi in (None, "echo 'NVIDIA-SMI has failed'; exit 9", "exit 0"):
            with self.subTest(smi=smi), tempfile.TemporaryDirectory() as folder:
                m = Machine(folder, **{"nvidia-smi": smi})
                done = m.run(*SHORT)
                self.assertEqual(done.returncode, 1)
                self.assertIn("no NVIDIA GPU that can be used", done.stderr)
                self.assertIn("machine.gpu: ", done.stderr)
                steps = m.steps()
                self.assertEqual(steps["tests.test_cuda"]["reason"], "there is no GPU to run on")
                self.assertEqual(steps["machine.duet"]["status"], "passed")

    def test_a_dry_run_needs_nothing_and_runs_nothing(self):
        m = self.machine(**{"nvidia-smi": None, "duet": None, "test_cuda": "touch ran"})
        done = m.run("--dry-run", *SHORT)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("bench step --json --device cuda --size mini --dtype bfloat16 --batch 32 --seq 24", done.stdout)
        self.assertIn("missing now: nvidia-smi is not installed", done.stdout)
        self.assertIn("the parsers understand their samples", done.stdout)
        self.assertFalse(m.out.exists())

    def test_ctrl_c_still_writes_the_report(self):
        m = self.machine(test_cuda="echo begun; sleep 600")
        process = subprocess.Popen(m.command(*SHORT), env=m.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        log = m.out / "logs/tests.test_cuda.txt"
        for _ in range(600):
            if log.exists() and b"begun" in log.read_bytes():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(m.report()["state"], "interrupted")
        steps = m.steps()
        self.assertEqual(steps["tests.test_cuda"]["reason"], "interrupted")
        self.assertEqual(steps["machine.duet"]["status"], "passed")
        self.assertEqual(steps["step.mini.bfloat16.b32"]["reason"], "not reached")

    def test_usage_errors(self):
        m = self.machine()
        for words in (["--cases", "huge:float32:1"], ["--cases", "mini:float32"], ["--limit", "tests"], ["--limit", "x=1"]):
            done = m.run(*words)
            self.assertEqual(done.returncode, 2, words)
            self.assertIn("cannot understand", done.stderr)

    def test_a_failed_build_stops_what_needs_it(self):
        m = self.machine(cmake="echo 'CMake Error: duet needs oneDNN'; exit 1")
        command = [w for w in m.command("--only", "build,tests") if w not in ("--bin-dir", str(m.bin))]
        done = subprocess.run(command, env=m.environment(), capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        steps = m.steps()
        self.assertIn("duet needs oneDNN", steps["build.configure"]["reason"])
        self.assertIn("-DDUET_CUDA_ARCHITECTURES=90", steps["build.configure"]["command"])
        self.assertEqual(steps["build.build"]["reason"], "the build failed")


if __name__ == "__main__":
    unittest.main()
