"""Tests of the scripts in bench/ that need neither a GPU nor PyTorch to be tested.

    python3 tests/bench/test_reports.py
"""
import contextlib
import importlib.machinery
import importlib.util
import io
import json
import os
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

sys.dont_write_bytecode = True
BENCH = Path(__file__).resolve().parents[2] / "bench"


def load(name):
    loader = importlib.machinery.SourceFileLoader(name.replace(".py", ""), str(BENCH / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


ptxas_report, predict_step, compare = load("ptxas_report"), load("predict_step"), load("compare_pytorch.py")
KERNEL = "_ZN4duet4cuda12_GLOBAL__N_111norm_kernelEPKdlPd"
PTXAS = f"""ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '{KERNEL}' for 'sm_90'
ptxas info    : Function properties for {KERNEL}
    8 bytes stack frame, 16 bytes spill stores, 36 bytes spill loads
ptxas info    : Used 30 registers, used 1 barriers, 8 bytes cumulative stack size, 64 bytes smem
ptxas info    : Compile time = 6.402 ms
ptxas info    : Function properties for _Z6helperf
    40 bytes stack frame, 4 bytes spill stores, 4 bytes spill loads
ptxas info    : Compiling entry function '_Z5plainv' for 'sm_90'
ptxas info    : Function properties for _Z5plainv
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers
"""


def run(module, *arguments):
    """(exit status, stdout, stderr) of a script's main."""
    out, err = io.StringIO(), io.StringIO()
    with mock.patch.object(sys, "argv", ["script", *map(str, arguments)]), contextlib.redirect_stdout(out), \
            contextlib.redirect_stderr(err):
        try:
            code = module.main() or 0
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()


class PtxasReport(unittest.TestCase):
    def test_numbers_of_each_kernel(self):
        kernels = ptxas_report.parse(PTXAS)
        self.assertEqual(kernels[KERNEL], {"architecture": "sm_90", "stack": 8, "spill_stores": 16, "spill_loads": 36,
                                           "registers": 30, "shared": 64, "barriers": 1})
        self.assertEqual(kernels["_Z5plainv"]["shared"], 0)
        self.assertEqual(len(kernels), 2)

    def test_names(self):
        full = ("void duet::cuda::(anonymous namespace)::layer_norm_kernel<duet::bf16, 32, 8>(duet::Rows<duet::bf16 "
                "const>, float const*, float)")
        self.assertEqual(ptxas_report.short(full), "layer_norm_kernel<bf16, 32, 8>")
        self.assertEqual(ptxas_report.short("void duet::cuda::k<(duet::ops::Activation)1, (int)4>(int)"), "k<1, 4>")

    def test_complaints(self):
        self.assertEqual(ptxas_report.complaints(PTXAS), [])
        self.assertEqual(len(ptxas_report.complaints("x.cu(3): warning #177-D: variable was declared\nptxas info : ok")), 1)

    def test_occupancy_by_registers(self):
        self.assertEqual([ptxas_report.threads_by_registers(r) for r in (16, 32, 33, 64, 255)], [2048, 2048, 1632, 1024, 256])

    def test_flags_are_those_of_the_build(self):
        command = ("ccache /usr/local/cuda/bin/nvcc -DX=1 -I/a -O3 --generate-code=arch=compute_90,code=[sm_90] -std=c++20 "
                   "-MD -MT a.o -MF a.o.d -x cu -c /src/a.cu -o a.o")
        emulated = "g++ -x c++ -c /src/a.cu -o b.o"
        found = ptxas_report.commands_of([{"command": command, "file": "/src/a.cu", "directory": "/build"},
                                          {"command": emulated, "file": "/src/a.cu", "directory": "/build"}])
        self.assertEqual(found, {"/src/a.cu": (["/usr/local/cuda/bin/nvcc", "-DX=1", "-I/a", "-O3", "-std=c++20", "-x", "cu",
                                                "/src/a.cu"], "/build")})

    def report(self, output, code=0):
        with tempfile.TemporaryDirectory() as folder:
            fake = Path(folder) / "nvcc"
            fake.write_text(f"#!/bin/sh\ncat <<'END'\n{output}END\nexit {code}\n")
            fake.chmod(0o755)
            commands = {"/src/adam.cu": ([str(fake), "/src/adam.cu"], folder)}
            with mock.patch.object(ptxas_report, "device_commands", lambda _: commands):
                return run(ptxas_report, "--architectures", "90")

    def test_a_spill_in_a_hot_kernel_fails(self):
        code, out, err = self.report(PTXAS.replace("norm_kernel", "adam_kernel"))
        self.assertEqual(code, 1)
        self.assertIn("spills 16 bytes out and 36 in", err)
        self.assertIn("| adam.cu | `plain` | 255 | 0 | 0 | 0 | 256 |", out)
        code, out, err = self.report(PTXAS)  # norm_kernel need not be fast
        self.assertEqual((code, err), (0, ""))
        self.assertIn("2 compiled kernels, 1 with spills, 0 of those must be fast", out)

    def test_a_failing_compiler_or_a_warning_fails(self):
        self.assertEqual(self.report(PTXAS, code=1)[0], 1)
        self.assertEqual(self.report(PTXAS + "adam.cu(1): warning #1-D: last line\n")[0], 1)
        self.assertIn("described 0 kernels", self.report("")[2])

    def test_no_build(self):
        with tempfile.TemporaryDirectory() as folder:
            code, _, err = run(ptxas_report, "--build-dir", folder)
        self.assertEqual(code, 2)
        self.assertIn("cmake --preset cuda", err)


class PredictStep(unittest.TestCase):
    def prediction(self, *arguments):
        code, out, _ = run(predict_step, "--json", *arguments)
        self.assertEqual(code, 0)
        return json.loads(out)

    def test_flops_agree_with_the_other_count(self):
        for size, batch, seq in (("mini", 32, 24), ("tiny", 3, 64), ("base", 256, 128)):
            expected = compare.gflop_per_step(compare.SIZES[size], batch, seq, "cuda")
            self.assertAlmostEqual(predict_step.model_gflop(size, batch, seq) / expected, 1, places=9)

    def test_products_are_those_of_the_model(self):
        # Without attention, whose backward computes its forward again, and but for the small head, the kernels' products
        # are the model's, less the gradient of the images.
        rows = self.prediction("--size", "base", "--batch", 8)["rows"]
        matmuls = sum(r["flops"] for r in rows if r["kernel"].startswith("matmul"))
        layers, left_out = 24 * 12 * 768 * 768, 18 * 768 * 768
        expected = 8 * (3 * layers * (197 + 128) - 3 * left_out * (196 + 127) + 2 * 2 * 196 * 768 * 768)
        self.assertAlmostEqual(matmuls / expected, 1, places=2)

    def test_parameters_of_base(self):
        # ViT-B/16 without pooler 85,798,656; BERT-base 109,482,240; the head 1536 x 10 + 10.
        self.assertEqual(self.prediction()["parameters"], 85798656 + 109482240 + 15370)

    def test_limits_are_what_they_say(self):
        base = self.prediction()
        self.assertAlmostEqual(sum(r["seconds"] for r in base["rows"]), base["step_seconds"], places=12)
        fast = self.prediction("--bandwidth", 33500, "--peak", 9890000, "--gap", 0)
        self.assertLess(fast["step_seconds"], base["step_seconds"] / 1000)
        gaps = self.prediction("--gap", 11.5)
        self.assertAlmostEqual(gaps["step_seconds"] - base["step_seconds"], base["kernels"] * 1e-5, places=9)
        adam = next(r for r in base["rows"] if r["kernel"] == "adam")
        self.assertAlmostEqual(adam["seconds"], 28 * base["parameters"] / (3.35e12 * 0.85) + adam["calls"] * 1.5e-6, places=9)

    def test_dropout_and_float32_use_our_own_attention(self):
        for arguments in (("--dropout", 0.1, 0.1), ("--dtype", "float32")):
            names = {r["kernel"] for r in self.prediction(*arguments)["rows"]}
            self.assertIn("attention_backward_key", names)
            self.assertNotIn("cudnn attention", names)
        text_only = {r["kernel"] for r in self.prediction("--dropout", 0, 0.1)["rows"]}
        self.assertLess({"attention", "cudnn attention", "dropout"}, text_only)

    def test_the_table(self):
        code, out, _ = run(predict_step, "--by", "op")
        self.assertEqual(code, 0)
        for words in ("| forward | mlp up | 96 |", "MFU", "assumed: 3.35 TB/s at 85 %"):
            self.assertIn(words, out)
        self.assertEqual(run(predict_step, "--seq", 513)[0], 2)


class ComparePytorch(unittest.TestCase):
    def compare(self, *arguments, computed=None):
        """Commands that were started, and the result, with both programs replaced."""
        started = []

        def fake(command, environment):
            started.append(command)
            seconds = 0.01 if "bench" in command else 0.02
            device = "cuda" if "--device=cuda" in command else "cpu"
            dtype = next((word.split("=")[1] for word in command if word.startswith("--dtype=")), "float32")
            return {"step_seconds": seconds, "dtype": computed or dtype, "samples_per_second": 1, "peak_rss_bytes": 1, "peak_device_bytes": 1,
                    "forward_seconds": 1, "backward_seconds": 1, "clip_seconds": 1, "optimizer_seconds": 1, "torch": "2.11",
                    "gflop_per_step": compare.gflop_per_step(compare.SIZES["mini"], 32, 24, device)}

        with mock.patch.object(compare, "run", fake), mock.patch.object(compare, "cuda_of_torch", lambda: True), \
                mock.patch("importlib.util.find_spec", lambda name: True):
            code, out, err = run(compare, "--json", "--duet", os.devnull, "--rounds", 1, *arguments)
        return code, started, out, err

    def test_the_cpu_is_the_default(self):
        code, (duet, torch), out, _ = self.compare()
        self.assertEqual(code, 0)
        self.assertIn("--device=cpu", duet)
        self.assertNotIn("--compile", torch)
        self.assertEqual(json.loads(out)["torch_over_duet"]["median"], 2)

    def test_a_gpu_on_both_sides(self):
        code, (duet, torch), out, _ = self.compare("--device", "cuda", "--dtype", "bfloat16", "--compile", "--dropout", 0)
        self.assertEqual(code, 0)
        for word in ("--device=cuda", "--dtype=bfloat16", "--dropout=0.0"):
            self.assertIn(word, duet)
            self.assertIn(word, torch)
        self.assertIn("--compile", torch)
        self.assertNotIn("--compile", duet)
        result = json.loads(out)
        self.assertEqual((result["mode"], result["dtype"]), ("compiled", "bfloat16"))
        self.assertEqual(result["duet"]["peak_device_bytes"]["median"], 1)

    def test_bfloat16_on_the_cpu(self):
        code, (duet, torch), _, _ = self.compare("--dtype", "bfloat16")
        self.assertEqual(code, 0)
        for command in (duet, torch):
            self.assertIn("--device=cpu", command)
            self.assertIn("--dtype=bfloat16", command)

    def test_a_duet_that_fell_back_to_float32_is_no_comparison(self):
        code, _, out, _ = self.compare("--dtype", "bfloat16", computed="float32")
        self.assertIn("no bfloat16 instructions", code)  # sys.exit's message
        self.assertEqual(out, "")


if __name__ == "__main__":
    unittest.main()
