#!/usr/bin/env python3
"""Times the same training step in duet and in PyTorch, alternately, each run in a process of its own.

The step: ViT and BERT of a preset size, class token and pooler output concatenated, a linear head with 10 labels;
forward, cross entropy, backward, clip to norm 1, AdamW. Alternating rounds spread the machine's moods
over both sides. Needs torch in the Python that runs this file, and transformers for --model transformers.

    python bench/compare_pytorch.py --duet build/release/duet --size mini --batch 32 --seq 24

With --dtype bfloat16 PyTorch uses autocast, as parameters stay float32 in duet too. On a GPU (--device cuda) it uses its
fused AdamW; float32 means float32, without TF32. A step ends when loss and gradient norm have reached the CPU. --compile
times torch.compile instead of eager mode; compilation falls into the warm-up. --tune first looks for the settings that
suit PyTorch best on this machine: threads, allocator and fused AdamW. MKL, which computes PyTorch's float32 products, uses
AVX-512 on Intel's processors only; --mkl-avx512 makes it believe that it is on one, which no setting of PyTorch's does.

    python bench/compare_pytorch.py --duet build/cuda/duet --device cuda --dtype bfloat16 --size base --batch 256 --seq 128 \\
        --dropout 0 --model plain --compile
"""
import argparse
import importlib.util
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LABELS = 10
VOCABULARY = 30522
# The presets of `duet --size`: width, layers, heads of each encoder, and the ViT's image and patch size. The two sides'
# FLOP counts are compared at run time, so a preset that changes is noticed.
SIZES = {
    "mini": {"vision": (96, 3, 3), "image": 64, "patch": 8, "text": (128, 2, 4), "positions": 64},
    "tiny": {"vision": (192, 12, 3), "image": 224, "patch": 16, "text": (256, 4, 4), "positions": 512},
    "base": {"vision": (768, 12, 12), "image": 224, "patch": 16, "text": (768, 12, 12), "positions": 512},
}
DROPOUT = {"vision": 0.0, "text": 0.1}


def gflop_per_step(size, batch, seq, device):
    """Matmul FLOPs of one step of duet's, 2 per multiply-add, backward counted as twice forward. In the last layers it
    computes of other tokens than the first only keys and values, on a GPU also queries and attention; PyTorch computes
    all."""

    def layers(part, tokens):
        width, count, _ = part
        return count * 2 * (12 * tokens * width * width + 2 * tokens * tokens * width)

    def left_out(part, tokens):
        query = part[0] ** 2 + 2 * tokens * part[0] if device == "cpu" else 0
        return 2 * (tokens - 1) * (9 * part[0] ** 2 + query)

    patches = (size["image"] // size["patch"]) ** 2
    embedding = 2 * patches * 3 * size["patch"] ** 2 * size["vision"][0]
    forward = layers(size["vision"], patches + 1) + embedding + layers(size["text"], seq)
    less = left_out(size["vision"], patches + 1) + left_out(size["text"], seq)
    return 3 * batch * (forward - less) * 1e-9


def transformers_model(size, dropout):
    import torch
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    def common(part):
        width, layers, heads = size[part]
        return {
            "hidden_size": width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "intermediate_size": 4 * width,
            "hidden_dropout_prob": dropout[part],
            "attention_probs_dropout_prob": dropout[part],
            "attn_implementation": "sdpa",
        }

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            vision = ViTConfig(image_size=size["image"], patch_size=size["patch"], **common("vision"))
            text = BertConfig(
                vocab_size=VOCABULARY, max_position_embeddings=size["positions"], **common("text")
            )
            self.vision = ViTModel(vision, add_pooling_layer=False)
            self.text = BertModel(text)
            self.head = torch.nn.Linear(vision.hidden_size + text.hidden_size, LABELS)

        def forward(self, images, ids, mask):
            image = self.vision(pixel_values=images).last_hidden_state[:, 0]
            text = self.text(input_ids=ids, attention_mask=mask).pooler_output
            return self.head(torch.cat([image, text], dim=1))

    return Model()


def plain_model(size, dropout):
    """The same model without a framework around it: one matmul for query, key and value, no Python per head."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Layer(nn.Module):
        def __init__(self, part, p, pre_norm):
            super().__init__()
            width, _, self.heads = part
            self.qkv, self.output = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
            eps = 1e-6 if pre_norm else 1e-12
            self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
            self.p, self.pre_norm = p, pre_norm

        def attend(self, x, mask):
            b, t, c = x.shape
            q, k, v = self.qkv(x).view(b, t, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=self.p if self.training else 0.0)
            y = self.output(y.transpose(1, 2).reshape(b, t, c))
            return F.dropout(y, self.p, self.training)

        def mlp(self, x):
            return F.dropout(self.down(F.gelu(self.up(x))), self.p, self.training)

        def forward(self, x, mask):
            if self.pre_norm:
                x = x + self.attend(self.norm1(x), mask)
                return x + self.mlp(self.norm2(x))
            x = self.norm1(x + self.attend(x, mask))
            return self.norm2(x + self.mlp(x))

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            (dv, lv, _), (dt, lt, _) = size["vision"], size["text"]
            self.patches = nn.Conv2d(3, dv, size["patch"], size["patch"])
            tokens = (size["image"] // size["patch"]) ** 2 + 1
            self.token, self.places = nn.Parameter(torch.zeros(1, 1, dv)), nn.Parameter(torch.zeros(1, tokens, dv))
            self.vision = nn.ModuleList(Layer(size["vision"], dropout["vision"], True) for _ in range(lv))
            self.vision_norm = nn.LayerNorm(dv, eps=1e-6)
            self.words = nn.Embedding(VOCABULARY, dt, padding_idx=0)
            self.positions, self.types = nn.Embedding(size["positions"], dt), nn.Embedding(2, dt)
            self.text_norm = nn.LayerNorm(dt, eps=1e-12)
            self.text = nn.ModuleList(Layer(size["text"], dropout["text"], False) for _ in range(lt))
            self.pooler, self.head = nn.Linear(dt, dt), nn.Linear(dv + dt, LABELS)

        def forward(self, images, ids, mask):
            x = self.patches(images).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.places
            for layer in self.vision:
                x = layer(x, None)
            y = self.words(ids) + self.positions.weight[: ids.shape[1]] + self.types(torch.zeros_like(ids))
            y = F.dropout(self.text_norm(y), dropout["text"], self.training)
            for layer in self.text:
                y = layer(y, mask[:, None, None, :].bool())
            text = torch.tanh(self.pooler(y[:, 0]))
            return self.head(torch.cat([self.vision_norm(x)[:, 0], text], dim=1))

    return Model()


def torch_step(args):
    """Runs in a process of its own; prints the keys of `duet bench step --json` that the comparison needs."""
    import torch

    torch.manual_seed(0)
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    gpu = device.type == "cuda"
    size = SIZES[args.size]
    dropout = DROPOUT if args.dropout is None else {"vision": args.dropout, "text": args.dropout}
    model = (transformers_model if args.model == "transformers" else plain_model)(size, dropout)
    model.train().to(device)
    parameters = sum(p.numel() for p in model.parameters())
    groups = [
        {"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True if args.fused_adamw or gpu else None)
    images = (torch.rand(args.batch, 3, size["image"], size["image"]) * 2 - 1).to(device)
    ids = torch.randint(1, VOCABULARY, (args.batch, args.seq)).to(device)
    mask = torch.ones_like(ids)
    labels = torch.randint(0, LABELS, (args.batch,)).to(device)
    if gpu:
        # Both have switches of their own, with different defaults.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=args.dtype == "bfloat16")
    compute = torch.compile(model) if args.compile else model

    def step(wait=None):
        """Seconds until the end of forward, backward and the whole; `wait` ends each part, which a real step does not."""
        start = time.perf_counter()
        with autocast:
            loss = torch.nn.functional.cross_entropy(compute(images, ids, mask).float(), labels)
        if not gpu:
            loss.item()
        if wait:
            wait()
        forward = time.perf_counter()
        loss.backward()
        if wait:
            wait()
        backward = time.perf_counter()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if wait:
            wait()
        clipped = time.perf_counter()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if gpu and not (math.isfinite(loss.item()) and math.isfinite(norm.item())):  # waits for the GPU, as duet does
            sys.exit("compare_pytorch: loss or gradient norm is not finite")
        end = time.perf_counter()
        return forward - start, backward - forward, clipped - backward, end - clipped, end - start

    for _ in range(args.warmup_steps):
        step()
    seconds = [step()[4] for _ in range(args.steps)]
    median = statistics.median(seconds)
    result = {
        "step_seconds": median,
        "samples_per_second": args.batch / median,
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "parameters": parameters,
        "torch": torch.__version__,
    }
    if gpu:
        result["peak_device_bytes"] = torch.cuda.max_memory_allocated(device)
        parts = [step(lambda: torch.cuda.synchronize(device)) for _ in range(args.steps)]
        for i, name in enumerate(("forward_seconds", "backward_seconds", "clip_seconds", "optimizer_seconds")):
            result[name] = statistics.median(p[i] for p in parts)
    print(json.dumps(result))


def run(command, environment):
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"compare_pytorch: {' '.join(command)} failed:\n{done.stderr}")
    return json.loads(done.stdout)


def cuda_of_torch():
    # In another process, as a context here would keep memory of the GPU for nothing.
    probe = [sys.executable, "-c", "import sys, torch; sys.exit(not torch.cuda.is_available())"]
    return subprocess.run(probe, capture_output=True).returncode == 0


def allocators():
    """Environments for PyTorch: glibc's allocator as it is, told to keep memory in huge pages, and others there are."""
    yield "glibc", {}
    # What is freed stays with the process, so that a step does not fault its pages in again.
    yield "glibc, huge pages", {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4294967296:"
                                                  "glibc.malloc.trim_threshold=68719476736"}
    for name, library in (("jemalloc", "libjemalloc.so.2"), ("tcmalloc", "libtcmalloc_minimal.so.4")):
        for path in Path("/usr/lib").glob(f"*/{library}"):
            yield name, {"LD_PRELOAD": str(path)}


def best_torch(command, environment, threads):
    """The settings of PyTorch that are fastest, each tried in one short run."""
    quick = [word for word in command if not word.startswith(("--steps=", "--warmup-steps=", "--compile"))]

    def seconds(settings):
        taken = run(*with_settings([*quick, "--steps=2", "--warmup-steps=1"], environment, settings))["step_seconds"]
        print(f"tune: {describe(settings)}: {1e3 * taken:.1f} ms", file=sys.stderr)
        return taken

    tried = [{"threads": threads, "fused": True, "allocator": name, "environment": extra} for name, extra in allocators()]
    times = [seconds(settings) for settings in tried]
    best = tried[times.index(min(times))]
    # One at a time from there: fewer threads, the optimizer as it is by default.
    for other in ({**best, "threads": 1}, {**best, "fused": False}):
        if other["threads"] != threads or not other["fused"]:
            tried.append(other)
            times.append(seconds(other))
    return tried[times.index(min(times))]


def describe(settings):
    return f"{settings['threads']} threads, {settings['allocator']}{', fused AdamW' if settings['fused'] else ''}"


def with_settings(command, environment, settings):
    words = [word for word in command if not word.startswith(("--threads=", "--fused-adamw"))]
    words += [f"--threads={settings['threads']}"] + ["--fused-adamw"] * settings["fused"]
    return words, {**environment, **settings["environment"]}


def believe_in_intel(environment, directory):
    """With a library preloaded that answers MKL's question whether the processor is Intel's."""
    source, library = Path(directory) / "intel.c", Path(directory) / "intel.so"
    source.write_text("int mkl_serv_intel_cpu_true(void) { return 1; }\n")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    preloaded = [environment["LD_PRELOAD"]] if "LD_PRELOAD" in environment else []
    return {**environment, "LD_PRELOAD": ":".join([*preloaded, str(library)])}


def summary(runs, key):
    values = [r[key] for r in runs]
    return {"median": statistics.median(values), "low": min(values), "high": max(values)}


def compare(args):
    if importlib.util.find_spec("torch") is None:
        sys.exit(f"compare_pytorch: {sys.executable} has no torch; run this file with a Python that has it")
    if args.model == "transformers" and importlib.util.find_spec("transformers") is None:
        sys.exit(f"compare_pytorch: {sys.executable} has no transformers; install it or pass --model plain")
    if not Path(args.duet).exists():
        sys.exit(f"compare_pytorch: there is no {args.duet}; build it or pass --duet FILE")
    if args.device != "cpu" and not cuda_of_torch():
        sys.exit(f"compare_pytorch: the torch of {sys.executable} sees no CUDA device")
    common = [f"--{name.replace('_', '-')}={getattr(args, name)}"
              for name in ("size", "batch", "seq", "threads", "steps", "warmup_steps", "dropout", "device", "dtype")
              if getattr(args, name) is not None]
    sides = {
        "duet": ([args.duet, "bench", "step", "--json", *common], dict(os.environ)),
        "torch": (
            [sys.executable, __file__, "--worker", f"--model={args.model}", *common]
            + [f"--{name.replace('_', '-')}" for name in ("fused_adamw", "compile") if getattr(args, name)],
            # A setting for OpenBLAS on new processors; torch must choose for itself.
            {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"},
        ),
    }
    settings = json.loads(args.torch_settings) if args.torch_settings else None
    if args.tune and settings is None:
        settings = best_torch(*sides["torch"], args.threads)
    if settings:
        sides["torch"] = with_settings(*sides["torch"], settings)
    if args.mkl_avx512:
        directory = tempfile.TemporaryDirectory()
        sides["torch"] = (sides["torch"][0], believe_in_intel(sides["torch"][1], directory.name))
    runs = {name: [] for name in sides}
    for i in range(args.rounds):
        # Whoever goes first in one round goes second in the next.
        for name in list(sides)[:: 1 if i % 2 == 0 else -1]:
            runs[name].append(run(*sides[name]))
            print(f"round {i + 1}: {name} {1e3 * runs[name][-1]['step_seconds']:.1f} ms", file=sys.stderr)
    if runs["duet"][0]["dtype"] != args.dtype:
        sys.exit(f"compare_pytorch: duet computed in {runs['duet'][0]['dtype']}: this CPU has no bfloat16 instructions")
    expected = gflop_per_step(SIZES[args.size], args.batch, args.seq, args.device)
    counted = runs["duet"][0]["gflop_per_step"]
    if abs(counted / expected - 1) > 0.01:
        sys.exit(f"compare_pytorch: not the same model: {counted} GFLOP in duet, {expected} here; update SIZES")
    ratios = [t["step_seconds"] / d["step_seconds"] for t, d in zip(runs["torch"], runs["duet"])]
    result = {
        "size": args.size,
        "batch": args.batch,
        "seq": args.seq,
        "threads": args.threads,
        "rounds": args.rounds,
        "model": args.model,
        "device": args.device,
        "dtype": args.dtype,
        "mode": "compiled" if args.compile else "eager",
        "torch_settings": settings,
        "mkl_avx512": args.mkl_avx512,
        "torch_version": runs["torch"][0]["torch"],
        "torch_over_duet": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
    }
    for name in sides:
        keys = ["step_seconds", "samples_per_second", "peak_rss_bytes"]
        # duet alone measures the peak, beside its steps
        keys += [key for key in ("fraction_of_peak", "fraction_of_sustained") if key in runs[name][0]]
        if args.device != "cpu":
            keys += ["forward_seconds", "backward_seconds", "clip_seconds", "optimizer_seconds", "peak_device_bytes"]
        result[name] = {key: summary(runs[name], key) for key in keys}
    if args.json:
        print(json.dumps(result))
        return
    memory = "peak_rss_bytes" if args.device == "cpu" else "peak_device_bytes"
    where = f"{args.dtype}, {args.threads} threads" if args.device == "cpu" else f"{args.device} {args.dtype}"
    print(f"{args.size}, batch {args.batch}, {args.seq} tokens, {where}, {args.rounds} rounds; "
          f"torch {result['torch_version']}, {args.model} model{', compiled' if args.compile else ''}")
    if settings:
        print(f"torch: {describe(settings)}")
    print(f"{'':8}{'step ms (low-high)':>28}{'samples/s':>12}{'peak RSS MiB' if args.device == 'cpu' else 'peak GPU MiB':>14}")
    for name in sides:
        ms = {k: 1e3 * v for k, v in result[name]["step_seconds"].items()}
        times = f"{ms['median']:.1f} ({ms['low']:.1f}-{ms['high']:.1f})"
        print(f"{name:8}{times:>28}{result[name]['samples_per_second']['median']:>12.1f}"
              f"{result[name][memory]['median'] / 2**20:>14.0f}")
    r = result["torch_over_duet"]
    print(f"torch / duet step time: {r['median']:.2f} ({r['low']:.2f}-{r['high']:.2f}); above 1 duet is faster")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = Path(__file__).resolve().parent.parent
    parser.add_argument("--duet", default=str(root / "build/release/duet"), help="the duet binary")
    parser.add_argument("--size", choices=SIZES, default="mini")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seq", type=int, default=24)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--warmup-steps", type=int, default=3)
    parser.add_argument("--dropout", type=float, help="in both encoders; default: text 0.1, vision 0")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", choices=("transformers", "plain"), default="transformers",
                        help="Hugging Face's classes, or a bare torch module")
    parser.add_argument("--fused-adamw", action="store_true",
                        help="torch's fused AdamW instead of its default; on a GPU it is always used")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:INDEX, on both sides")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32",
                        help="of activations; in PyTorch bfloat16 means autocast")
    parser.add_argument("--compile", action="store_true", help="time torch.compile instead of eager mode")
    parser.add_argument("--tune", action="store_true",
                        help="first find PyTorch's best threads, allocator and AdamW, by short runs in eager mode")
    parser.add_argument("--torch-settings", metavar="JSON", help="settings that --tune found, as --json prints them")
    parser.add_argument("--mkl-avx512", action="store_true",
                        help="let PyTorch's MKL use AVX-512 on processors that are not Intel's, against its own choice")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch_step(args) if args.worker else compare(args)


if __name__ == "__main__":
    main()
