"""Turns what tools/gpu_check found into the page that people read."""


def cell(value):
    return str(value).replace("|", "\\|").replace("\n", " ")


def table(head, rows, numeric_from=1):
    lines = ["| " + " | ".join(head) + " |",
             "| " + " | ".join("---" if i < numeric_from else "---:" for i in range(len(head))) + " |"]
    return lines + ["| " + " | ".join(cell(c) for c in row) + " |" for row in rows] + [""]


def number(value, digits=1, factor=1.0):
    return f"{value * factor:,.{digits}f}" if isinstance(value, (int, float)) else ""


def by_group(steps):
    groups = {}
    for step in steps:
        groups.setdefault(step["name"].split(".")[0], []).append(step)
    return groups


def machine_lines(steps):
    found = {s["name"]: s for s in steps if s["name"].startswith("machine.")}
    lines = []
    for gpu in found.get("machine.gpu", {}).get("numbers", {}).get("gpus", []):
        lines.append(f"- GPU: {gpu['name']}, compute capability {gpu['capability']}, {gpu['memory']}, power limit "
                     f"{gpu['power_limit']}, driver {gpu['driver']}")
    torch = found.get("machine.pytorch", {}).get("numbers", {})
    if torch.get("torch"):
        lines.append(f"- PyTorch {torch['torch']} for CUDA {torch.get('cuda')}")
    for name, what in (("machine.nvcc", "nvcc"), ("machine.sanitizer", "compute-sanitizer")):
        if says := found.get(name, {}).get("numbers", {}).get("says"):
            lines.append(f"- {what}: {says}")
    info = found.get("machine.duet", {}).get("numbers", {})
    for device in info.get("devices", []):
        lines.append(f"- duet sees {device.get('name')}: {device.get('model')} {device.get('versions', '')}".rstrip())
    return lines or ["- nothing is known about it"]


def step_times(steps):
    """Timed steps of duet."""
    rows = []
    for s in steps:
        n = s["numbers"]
        if not s["name"].startswith("ops.") and s["status"] == "passed" and "step_seconds" in n:
            how = "cuDNN's layer norm" if s["name"].endswith(".cudnn_layer_norm") else ""
            rows.append((n["size"], n["dtype"], n["batch"], n["seq"], how, number(n["step_seconds"], 2, 1e3),
                         number(n["forward_seconds"], 2, 1e3), number(n["backward_seconds"], 2, 1e3),
                         number(n["clip_seconds"], 2, 1e3), number(n["optimizer_seconds"], 2, 1e3),
                         number(n["samples_per_second"], 0), number(n["gflops"], 1, 1e-3),
                         number(n["fraction_of_peak"], 1, 100),
                         number(n.get("peak_device_bytes"), 2, 2**-30)))
    return rows


def kernel_times(steps):
    """The kernels of one step, by op, the slowest first; those below a thousandth are one row."""
    rows = []
    for s in steps:
        kernels = s["numbers"].get("kernels") or []
        total = sum(k["seconds"] for k in kernels)
        large = [k for k in kernels if k["seconds"] >= total / 1000]
        rest = [k for k in kernels if k["seconds"] < total / 1000]
        for k in large:
            rows.append((k["op"], k["kernel"], k["calls"], number(k["seconds"], 3, 1e3), number(k["seconds"] / total, 1, 100)))
        if rest:
            seconds = sum(k["seconds"] for k in rest)
            rows.append(("", f"{len(rest)} others", sum(k["calls"] for k in rest), number(seconds, 3, 1e3),
                         number(seconds / total, 1, 100)))
        if kernels:
            rows.append((s["name"].removeprefix("ops."), "together", sum(k["calls"] for k in kernels),
                         number(total, 3, 1e3), "100.0"))
    return rows


def comparisons(steps):
    rows = []
    for s in steps:
        n = s["numbers"]
        if s["status"] == "passed" and "torch_over_duet" in n:
            ratio = n["torch_over_duet"]
            rows.append((n["size"], n["dtype"], n["batch"], n["mode"], number(n["duet"]["step_seconds"]["median"], 2, 1e3),
                         number(n["torch"]["step_seconds"]["median"], 2, 1e3),
                         f"{ratio['median']:.2f} ({ratio['low']:.2f}-{ratio['high']:.2f})",
                         number(n["duet"].get("peak_device_bytes", {}).get("median"), 2, 2**-30),
                         number(n["torch"].get("peak_device_bytes", {}).get("median"), 2, 2**-30)))
    return rows


def verdict(report):
    counts = {k: sum(s["status"] == k for s in report["steps"]) for k in ("passed", "failed", "skipped")}
    words = f"{counts['passed']} steps passed, {counts['failed']} failed, {counts['skipped']} did not run"
    return words + {"running": "; still running", "interrupted": "; interrupted before the end"}.get(report["state"], "")


def markdown(report):
    steps = report["steps"]
    lines = ["# duet on a GPU", "", f"Started {report['started']}, took {report['seconds']:.0f} s: **{verdict(report)}.**",
             "", "## Machine", "", *machine_lines(steps), "", "## Summary", ""]
    rows = []
    for group, members in by_group(steps).items():
        tests = [s["numbers"] for s in members if "passed" in s["numbers"]]
        rows.append((group, *(sum(s["status"] == k for s in members) for k in ("passed", "failed", "skipped")),
                     sum(n["passed"] for n in tests) or "", sum(n["failed"] for n in tests) if tests else "",
                     number(sum(s["seconds"] for s in members))))
    lines += table(("group", "passed", "failed", "not run", "tests passed", "tests failed", "seconds"), rows)
    failed = [s for s in steps if s["status"] == "failed"]
    if failed:
        lines += ["## Failed", ""]
        for s in failed:
            lines += [f"### {s['name']}", "", s["reason"], ""]
            if s.get("tail"):
                # Indented instead of fenced: whatever a program prints cannot end the block.
                lines += ["    " + line for line in s["tail"].splitlines()[-30:]] + [""]
    missing = [s for s in steps if s["status"] == "skipped"]
    if missing:
        lines += ["## Did not run", "", *table(("step", "why"), [(s["name"], s["reason"]) for s in missing], 2)]
    if rows := step_times(steps):
        lines += ["## Training step", "", "Milliseconds, medians. Phases are timed apart, with a wait after each, so they "
                  "can add up to more than the step. Peak is a large matrix product of that dtype on this GPU.", ""]
        lines += table(("size", "dtype", "batch", "tokens", "with", "step ms", "forward", "backward", "clip", "optimizer",
                        "samples/s", "TFLOP/s", "% of peak", "GiB"), rows, 2)
    if rows := comparisons(steps):
        lines += ["## Beside PyTorch", "", "The same step in both, in turn; a ratio above 1 means that duet is faster.", ""]
        lines += table(("size", "dtype", "batch", "mode", "duet ms", "PyTorch ms", "PyTorch / duet", "duet GiB",
                        "PyTorch GiB"), rows, 2)
    if rows := kernel_times(steps):
        lines += ["## Kernels", "", "The GPU's time of every kernel and library call in one step.", ""]
        lines += table(("op", "kernel", "calls", "ms", "%"), rows, 2)
    lines += ["## Every step", ""]
    lines += table(("step", "status", "seconds", "command"),
                   [(s["name"], s["status"], number(s["seconds"]), f"`{s['command']}`" if s.get("command") else "")
                    for s in steps], 2)
    return "\n".join(lines)
