"""Tests of the microbenchmarks' names and numbers.

    python3 tests/bench/test_bench_ops.py build/release/bench/bench_ops
"""
import json
import re
import subprocess
import sys
import unittest

NAME = re.compile(r"([a-z0-9_]+)/(float32|bfloat16)/([^/]+)/(forward|backward)/threads:(\d+)")
BINARY = ""


def run(*arguments):
    done = subprocess.run([BINARY, *arguments], capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"bench_ops {' '.join(arguments)} failed: {done.stderr}")
    return done.stdout


def measure(pattern, *arguments):
    return json.loads(run(f"--benchmark_filter={pattern}", "--benchmark_min_time=0.001", "--benchmark_format=json", *arguments))


class BenchOps(unittest.TestCase):
    def test_names_are_unique_and_say_what_they_are(self):
        names = run("--benchmark_list_tests").split()
        self.assertEqual(len(names), len(set(names)))
        for name in names:
            self.assertRegex(name, f"^{NAME.pattern}$")
        self.assertEqual({NAME.match(name)[1] for name in names}, set(run("--list").split()))
        shapes = {NAME.match(name)[3] for name in names}
        for model in ("vit-base", "bert-base", "vit-tiny", "bert-tiny", "vit-mini", "bert-mini"):
            self.assertTrue(any(shape.startswith(model) for shape in shapes), model)

    def test_every_op_runs_and_is_rated(self):
        result = measure("mini.*threads:1$")
        self.assertGreater(float(result["context"]["float32_peak_gflops/threads:1"]), 0.1)
        self.assertGreater(float(result["context"]["copy_gb_per_second/threads:1"]), 0.1)
        rows = {row["name"]: row for row in result["benchmarks"]}
        self.assertEqual({NAME.match(name)[1] for name in rows}, set(run("--list").split()))
        for name, row in rows.items():
            op, dtype, _, _, threads = NAME.match(name).groups()
            self.assertFalse(row.get("error_occurred"), f"{name}: {row.get('error_message')}")
            self.assertGreater(row["real_time"], 0, name)
            products = op in ("linear", "feed_forward", "matmul", "attention", "class_attention", "patch_embedding", "recompute", "mean_tokens")
            self.assertEqual("GFLOP/s" in row, products, name)
            limits = [row[key] for key in ("of_peak", "of_copy") if key in row]
            self.assertEqual(row["of_roofline"], max(limits, default=0), name)
            if products:
                peak = float(result["context"][f"{dtype}_peak_gflops/threads:{threads}"])
                self.assertAlmostEqual(row["of_peak"] * peak / row["GFLOP/s"], 1, places=4, msg=name)
            if op != "reshape" and not (name.startswith("add/") and "/backward/" in name):
                self.assertGreater(row["GB/s"], 0, name)  # those two hand their memory on

    def test_two_runs_can_be_compared(self):
        # What compare.py of Google Benchmark works on: repetitions of one name, in two files.
        pattern = "^(gelu|softmax)/float32/vit-mini.*threads:1$"
        runs = [measure(pattern, "--benchmark_repetitions=3")["benchmarks"] for _ in range(2)]
        times = []
        for rows in runs:
            by_name = {}
            for row in rows:
                if row["run_type"] == "iteration":
                    by_name.setdefault(row["name"], []).append(row["real_time"])
            self.assertEqual([len(values) for values in by_name.values()], [3] * 4)
            times.append(by_name)
        self.assertEqual(times[0].keys(), times[1].keys())


if __name__ == "__main__":
    BINARY = sys.argv.pop(1)
    unittest.main()
