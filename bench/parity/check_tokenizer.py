#!/usr/bin/env python3
"""Compares `duet tokenize` with the Rust tokenizers package on some hundred thousand varied texts; needs `tokenizers`.

    python bench/parity/check_tokenizer.py --duet build/release/duet [--model DIR] [--data DIR...] [--text FILE...]

Ids, type ids, tokens and offsets must be identical, for single texts and pairs, whole and cut, in a lowercase and in a
cased pipeline, and with added tokens of every kind. Exits with 1 on any difference. The vocabulary is that of the model
directory, or else learned from the texts with `duet vocab`. Texts are the generated ones and those of dataset
directories (manifest.jsonl) and text files; without --data and --text, WordNet's glosses through `duet data wordnet`.
"""
import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import unicodedata

from tokenizers import Tokenizer

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def characters():
    """All code points that this Python's Unicode knows, by category."""
    by_category = {}
    for code in range(0x110000):
        c = chr(code)
        category = unicodedata.category(c)
        if category == "Cs" or c in "\n\r":  # no UTF-8; ends a line
            continue
        # Of the unassigned ones only the permanent: the package's lowercase table is newer than its categories.
        if category == "Cn" and code & 0xFFFE != 0xFFFE and code != 0x378:
            continue
        by_category.setdefault(category, []).append(c)
    return by_category


def generated_lines(seed, count):
    rng = random.Random(seed)
    by_category = characters()
    categories = sorted(by_category)
    words = ["the", "Caf\u00e9", "na\u00efve", "[MASK]", "[SEP]", "[mask]", "don't", "x" * 101, "\u0130stanbul", "\u039f\u03a3"]
    lines = []
    for _ in range(count):
        parts = []
        for _ in range(rng.randint(1, 14)):
            kind = rng.random()
            if kind < 0.4:
                parts.append("".join(rng.choice(by_category[rng.choice(categories)]) for _ in range(rng.randint(1, 5))))
            elif kind < 0.5:
                base = rng.choice("aeiouAEIOU\u03b1\u0416")
                parts.append(base + "".join(rng.choice(by_category["Mn"]) for _ in range(rng.randint(1, 3))))
            elif kind < 0.58:
                parts.append(special_sequences(rng))
            elif kind < 0.66:
                parts.append("".join(rng.choice(by_category["Lo"]) for _ in range(rng.randint(1, 6))))
            else:
                parts.append(rng.choice(words))
        lines.append(rng.choice(["", " "]).join(parts))
    # Every character between two letters.
    every = [c for category in categories for c in by_category[category]]
    lines += [" ".join(f"a{c}B" for c in every[i : i + 40]) for i in range(0, len(every), 40)]
    return lines


def special_sequences(rng):
    """Emoji with joiners and skin tones, flags, Hangul in both forms, and special tokens between spaces."""
    people, tones = "\U0001f468\U0001f469\U0001f467\U0001f466", "\U0001f3fb\U0001f3fd\U0001f3ff"
    kind = rng.randrange(6)
    if kind == 0:
        return "\u200d".join(rng.choice(people) + rng.choice(["", rng.choice(tones)]) for _ in range(rng.randint(2, 4)))
    if kind == 1:
        return "".join(chr(0x1F1E6 + rng.randrange(26)) for _ in range(2)) + rng.choice(["", "\ufe0f", "\u20e3"])
    if kind == 2:
        return unicodedata.normalize(rng.choice(["NFC", "NFD"]), "".join(chr(rng.randrange(0xAC00, 0xD7A4)) for _ in range(4)))
    if kind == 3:
        return rng.choice([" ", "  ", "\u00a0", ""]).join([rng.choice(SPECIALS), rng.choice(["<tok>", "Word", "<l>", "<r>", "N\u00e9w"])])
    if kind == 4:
        return "".join(rng.choice("abcdefghijklmnop") for _ in range(rng.choice([99, 100, 101, 250])))
    return "".join(chr(rng.randrange(0x4E00, 0x9FA6)) for _ in range(3)) + rng.choice("\u30ab\u3042\uff0c\u3002a")


ADDED = [
    {"content": "<tok>"},
    {"content": "Word", "single_word": True},
    {"content": "<l>", "lstrip": True},
    {"content": "<r>", "rstrip": True, "special": False},
    {"content": "N\u00e9w", "normalized": True, "special": False},
]


def pipeline(vocab, lowercase, more):
    """The JSON of a BERT tokenizer with the added tokens `more`."""
    ids = {token: i for i, token in enumerate(vocab)}
    added = [{"content": token, "special": True} for token in SPECIALS] + more
    for i, token in enumerate(t for t in added if t["content"] not in ids):
        token["id"] = len(vocab) + i
    whole = lambda t: {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True,
                       "id": ids.get(t["content"]), **t}
    return {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": sorted(map(whole, added), key=lambda t: t["id"]),
        "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None,
                       "lowercase": lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", ids["[SEP]"]], "cls": ["[CLS]", ids["[CLS]"]]},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": ids},
    }


def vocabulary(arguments, root, lines, lowercase):
    if arguments.model:
        directory = pathlib.Path(arguments.model)
        if (directory / "tokenizer.json").exists():
            vocab = json.loads((directory / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
            return sorted(vocab, key=vocab.get)
        return (directory / "vocab.txt").read_text("utf-8").splitlines()
    with open(root / "manifest.jsonl", "w", encoding="utf-8") as manifest:
        for i, line in enumerate(lines):
            manifest.write(json.dumps({"id": str(i), "text": line, "split": "train"}) + "\n")
    subprocess.run([arguments.duet, "vocab", "--data", str(root), "--vocab-size", "12000", "--alphabet-limit", "4000",
                    "--lowercase" if lowercase else "--no-lowercase", "--out", str(root / "vocab.txt")],
                   check=True, stdout=subprocess.DEVNULL)
    return (root / "vocab.txt").read_text("utf-8").split("\n")[:-1]


def duet_rows(binary, directory, more, lines):
    """Yields the rows of `duet tokenize` for each line."""
    with tempfile.TemporaryFile("w+", encoding="utf-8", newline="\n") as given:
        given.write("\n".join(lines) + "\n")
        given.seek(0)
        command = [binary, "tokenize", "--model", str(directory), "--offsets", *more]
        with subprocess.Popen(command, stdin=given, stdout=subprocess.PIPE, encoding="utf-8") as run:
            for line in run.stdout:
                row = json.loads(line)
                yield row["ids"], row.get("type_ids"), row["tokens"], row["offsets"]
        assert run.returncode == 0


def rust_rows(tokenizer, inputs):
    for begin in range(0, len(inputs), 1000):  # an encoding takes kilobytes
        for e in tokenizer.encode_batch(inputs[begin : begin + 1000]):
            # With lstrip and rstrip the package shows the spaces that a token took; the token of an id is without.
            yield e.ids, e.type_ids, [tokenizer.id_to_token(i) for i in e.ids], [list(o) for o in e.offsets]


def texts(arguments, root):
    lines = generated_lines(arguments.seed, arguments.generated)
    directories = [pathlib.Path(d) for d in arguments.data]
    if not directories and not arguments.text:
        directories = [root / "wordnet"]
        subprocess.run([arguments.duet, "data", "wordnet", "--out", str(directories[0])], check=True, stdout=subprocess.DEVNULL)
    for directory in directories:
        with open(directory / "manifest.jsonl", encoding="utf-8") as manifest:
            lines += [text for row in manifest if (text := json.loads(row).get("text"))]
    for name in arguments.text:
        lines += pathlib.Path(name).read_text("utf-8", "replace").split("\n")
    return [line.replace("\r", " ").replace("\n", " ") for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duet", required=True, help="the program")
    parser.add_argument("--model", help="model directory whose vocabulary to use")
    parser.add_argument("--data", action="append", default=[], help="dataset directory")
    parser.add_argument("--text", action="append", default=[], help="text file")
    parser.add_argument("--generated", type=int, default=30000, help="number of generated lines")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    failures = total = 0
    with tempfile.TemporaryDirectory() as temporary:
        root = pathlib.Path(temporary)
        lines = texts(arguments, root)
        all_pairs = [(a, b) for a, b in zip(lines[::4], lines[2::4]) if "\t" not in a + b]
        # Of every so many lines one: the added tokens occur in the generated lines only.
        configurations = [("uncased", True, [], 1), ("cased", False, [], 1), ("uncased, added tokens", True, ADDED, 5)]
        for name, lowercase, more, every in configurations:
            singles, pairs = lines[::every], all_pairs[::every]
            columns = [a + "\t" + b for a, b in pairs]
            model = root / "model"
            model.mkdir(exist_ok=True)
            vocab = vocabulary(arguments, root, lines, lowercase)
            content = json.dumps(pipeline(vocab, lowercase, [dict(t) for t in more]))
            (model / "tokenizer.json").write_text(content, "utf-8")
            for options, given, theirs in [([], singles, singles), (["--pair"], columns, pairs),
                                           (["--max-length", "9"], singles[::3], singles[::3]),
                                           (["--pair", "--max-length", "12"], columns[::3], pairs[::3]),
                                           (["--pair", "--max-length", "12", "--truncation-side", "left"], columns[::3], pairs[::3])]:
                tokenizer = Tokenizer.from_str(content)
                if "--max-length" in options:
                    tokenizer.enable_truncation(int(options[options.index("--max-length") + 1]),
                                                direction="left" if "left" in options else "right")
                count = before = 0
                before = failures
                ours = duet_rows(arguments.duet, model, options, given)
                for line, a, b in zip(theirs, ours, rust_rows(tokenizer, theirs), strict=True):
                    count += len(b[0])
                    if a[0] != b[0] or (a[1] is not None and a[1] != b[1]) or a[2] != b[2] or a[3] != b[3]:
                        failures += 1
                        if failures <= 10:
                            print(f"differs: {line!r}\n  duet {a[2]} {a[3]}\n  rust {b[2]} {b[3]}")
                total += len(theirs)
                print(f"{name} {' '.join(options)}: {len(theirs)} texts, {count} tokens, {failures - before} differ", flush=True)
    print(f"{len(lines)} lines, {total} comparisons, {failures} differences")
    return failures != 0


if __name__ == "__main__":
    sys.exit(main())
