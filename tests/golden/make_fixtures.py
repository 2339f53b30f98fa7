#!/usr/bin/env python3
"""Makes the golden fixtures from PyTorch and Hugging Face Transformers; the tests themselves need no Python.

Made with Python 3.11, torch 2.15.0, transformers 5.23.0, safetensors 0.8.0, numpy 2.4.6 (any recent versions do), plus
pillow 13.0.0, tokenizers 0.23.3 and Debian's openclipart-png and openclipart-svg for the paired run. To make them again:

    python3 -m venv venv && venv/bin/pip install torch transformers safetensors pillow tokenizers
    venv/bin/python tests/golden/make_fixtures.py [NAME...]        # default: all; writes tests/golden/fixtures/NAME

Each fixture holds config.json and model.safetensors as save_pretrained writes them (weights are float32 numbers) and
expected.safetensors: inputs, hidden states, outputs, the loss, every gradient by its Hugging Face key, and the losses
and gradient norms of ten AdamW steps, all computed in float64. Its metadata entry "settings" is the JSON of the
training settings. The paired run holds samples and the losses of each step instead.
"""
import copy
import html
import json
import os
import re
import sys
import tempfile

import numpy as np
import safetensors.torch
import torch
import torch.nn.functional as F
import transformers
from transformers import (BertConfig, BertForMaskedLM, BertForSequenceClassification, BertModel, ViTConfig,
                          ViTForImageClassification, ViTModel, VisionTextDualEncoderConfig,
                          VisionTextDualEncoderModel)
from transformers.models.vit import modeling_vit

FIXTURES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
SETTINGS = {"learning_rate": 0.01, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.1, "clip": 1.0,
            "warmup": 3, "steps": 10}


def exact_attention(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **kwargs):
    """ViT's eager attention without its detour: that one takes the softmax in float32 even in a float64 model."""
    scores = torch.matmul(query, key.transpose(2, 3)) * (query.size(-1) ** -0.5 if scaling is None else scaling)
    weights = torch.softmax(scores if attention_mask is None else scores + attention_mask, dim=-1)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


modeling_vit.eager_attention_forward = exact_attention
transformers.utils.logging.disable_progress_bar()


def set_weights(model, seed):
    """Float32 numbers far from the usual start, so that no term of a formula hides behind a zero or a one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float32)
            norm_weight = p.ndim == 1 and name.endswith("weight")
            value = 1 + 0.1 * noise if norm_weight else 2.0 + 0.1 * noise if p.ndim == 0 else 0.25 * noise
            p.copy_(value.float())
    return model.double().eval()


def file_tensors(model):
    """The tensors under the names that save_pretrained gives them, which differ from those in memory."""
    with tempfile.TemporaryDirectory() as directory:
        model.save_pretrained(directory)
        return safetensors.torch.load_file(os.path.join(directory, "model.safetensors"))


def file_gradients(model):
    holder = copy.deepcopy(model)
    with torch.no_grad():
        for target, p in zip(holder.parameters(), model.parameters()):
            target.copy_(p.grad)
    return file_tensors(holder)


def vit_config(**more):
    return ViTConfig(**{**dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=4, intermediate_size=24,
                               image_size=8, patch_size=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                               layer_norm_eps=1e-6, attn_implementation="eager"), **more})


def bert_config(**more):
    return BertConfig(**{**dict(vocab_size=30, hidden_size=12, num_hidden_layers=2, num_attention_heads=3,
                                intermediate_size=20, max_position_embeddings=9, hidden_dropout_prob=0.0,
                                attention_probs_dropout_prob=0.0, attn_implementation="eager"), **more})


def images(batch, config, seed):
    return torch.randn(batch, config.num_channels, config.image_size, config.image_size, dtype=torch.float64,
                       generator=torch.Generator().manual_seed(seed))


def texts(batch, tokens, config, seed):
    """Sequences of different lengths with padding, the second half of each of token type 1; ids repeat."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(1, config.vocab_size, (batch, tokens), generator=generator)
    lengths = torch.tensor([tokens - (2 * i) % (tokens - 1) for i in range(batch)])
    position = torch.arange(tokens)[None, :]
    mask = (position < lengths[:, None]).long()
    types = ((position >= (lengths // 2)[:, None]) & (mask == 1)).long()
    return {"input_ids": torch.where(mask == 1, ids, config.pad_token_id), "attention_mask": mask,
            "token_type_ids": types}


def train(model, loss_of, settings, steps, batches=None):
    """AdamW without decay below rank 2, gradient clipping, linear warmup and decay. Returns losses and norms; when
    all batches are the same, one more loss shows the last step."""
    groups = [{"params": [p for p in model.parameters() if p.ndim >= 2], "weight_decay": settings["weight_decay"]},
              {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings["learning_rate"], eps=settings["eps"],
                                  betas=(settings["beta1"], settings["beta2"]))
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, settings["warmup"], steps)
    losses, norms = [], []
    for step in range(steps):
        model.zero_grad()
        loss = loss_of(model) if batches is None else loss_of(model, batches[step])
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), settings["clip"]).item())
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    if batches is None:
        losses.append(loss_of(model).item())
    return losses, norms


def write(name, model, inputs, outputs_of, settings=None, config=None, tensors_of=file_tensors,
          gradients_of=file_gradients):
    """outputs_of(model) -> dict of tensors, "loss" among them."""
    settings = {**SETTINGS, **(settings or {})}
    directory = os.path.join(FIXTURES, name)
    os.makedirs(directory, exist_ok=True)
    if config is None:
        copy.deepcopy(model).float().save_pretrained(directory)
    else:
        with open(os.path.join(directory, "config.json"), "w") as f:
            f.write(json.dumps(config, indent=2) + "\n")
        weights = {k: v.float().contiguous() for k, v in tensors_of(model).items()}
        safetensors.torch.save_file(weights, os.path.join(directory, "model.safetensors"), {"format": "pt"})
    extra = set(os.listdir(directory)) - {"config.json", "model.safetensors", "expected.safetensors"}
    assert not extra, extra
    outputs = outputs_of(model)
    outputs["loss"].backward()
    expected = {f"input.{k}": v for k, v in inputs.items()}
    expected |= {f"output.{k}": v.detach() for k, v in outputs.items()}
    expected |= {f"gradient.{k}": v for k, v in gradients_of(model).items()}
    losses, norms = train(model, lambda m: outputs_of(m)["loss"], settings, settings["steps"])
    # A fixture must show both: steps that are clipped and steps that are not.
    assert max(norms) > settings["clip"] > min(norms), (name, norms)
    expected["training.losses"] = torch.tensor(losses, dtype=torch.float64)
    expected["training.norms"] = torch.tensor(norms, dtype=torch.float64)
    for k, v in expected.items():
        assert v.dtype != torch.float32, k
    expected = {k: (v.to(torch.int32) if v.dtype == torch.int64 and "labels" not in k else v).contiguous().clone()
                for k, v in expected.items()}
    safetensors.torch.save_file(expected, os.path.join(directory, "expected.safetensors"),
                                {"format": "pt", "settings": json.dumps(settings)})
    print(name, "losses", [round(x, 4) for x in losses], "norms", [round(x, 3) for x in norms])


def hidden(outputs, prefix=""):
    return {f"{prefix}hidden.{i}": h for i, h in enumerate(outputs.hidden_states)}


def encoder_loss(last, pooled, target_last, target_pooled):
    return ((last - target_last) ** 2).mean() + ((pooled - target_pooled) ** 2).mean()


def targets(last_shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return {"target_last": torch.randn(last_shape, generator=generator, dtype=torch.float64),
            "target_pooled": torch.randn((last_shape[0], last_shape[2]), generator=generator, dtype=torch.float64)}


def vit_model():
    model = set_weights(ViTModel(vit_config()), 1)
    inputs = {"pixel_values": images(3, model.config, 2), **targets((3, 5, 16), 3)}

    def outputs_of(m):
        o = m(inputs["pixel_values"], output_hidden_states=True)
        return {**hidden(o), "last_hidden_state": o.last_hidden_state, "pooler_output": o.pooler_output,
                "loss": encoder_loss(o.last_hidden_state, o.pooler_output, inputs["target_last"],
                                     inputs["target_pooled"])}

    write("vit_model", model, inputs, outputs_of)


def vit_classifier():
    model = set_weights(ViTForImageClassification(vit_config(hidden_act="gelu_new", qkv_bias=False, num_labels=5)), 4)
    inputs = {"pixel_values": images(4, model.config, 5), "labels": torch.tensor([0, 3, 4, 3])}

    def outputs_of(m):
        o = m(inputs["pixel_values"], labels=inputs["labels"], output_hidden_states=True)
        return {**hidden(o), "logits": o.logits, "loss": o.loss}

    write("vit_classifier", model, inputs, outputs_of)


def bert_model():
    model = set_weights(BertModel(bert_config()), 6)
    inputs = {**texts(4, 7, model.config, 7), **targets((4, 7, 12), 8)}

    def outputs_of(m):
        o = m(**{k: v for k, v in inputs.items() if not k.startswith("target")}, output_hidden_states=True)
        return {**hidden(o), "last_hidden_state": o.last_hidden_state, "pooler_output": o.pooler_output,
                "loss": encoder_loss(o.last_hidden_state, o.pooler_output, inputs["target_last"],
                                     inputs["target_pooled"])}

    write("bert_model", model, inputs, outputs_of, {"clip": 1.5})


def bert_classifier():
    model = set_weights(BertForSequenceClassification(bert_config(hidden_act="gelu_new", num_labels=3)), 9)
    inputs = {**texts(4, 8, model.config, 10), "labels": torch.tensor([2, 0, 1, 2])}

    def outputs_of(m):
        o = m(**{k: v for k, v in inputs.items() if k != "labels"}, output_hidden_states=True)
        loss = F.cross_entropy(o.logits, inputs["labels"], label_smoothing=0.1)
        return {**hidden(o), "logits": o.logits, "loss": loss}

    write("bert_classifier", model, inputs, outputs_of, {"label_smoothing": 0.1})


def bert_masked_lm():
    model = set_weights(BertForMaskedLM(bert_config()), 11)
    inputs = texts(4, 8, model.config, 12)
    # A masked position among every few real ones keeps its original id as the label; all others do not count.
    masked = (torch.arange(32).reshape(4, 8) % 3 == 1) & (inputs["attention_mask"] == 1)
    inputs["labels"] = torch.where(masked, inputs["input_ids"], -100)
    inputs["input_ids"] = torch.where(masked, 4, inputs["input_ids"])

    def outputs_of(m):
        o = m(**inputs, output_hidden_states=True)
        return {**hidden(o), "logits": o.logits, "loss": o.loss}

    write("bert_masked_lm", model, inputs, outputs_of, {"clip": 2.7})


def dual_encoder():
    config = VisionTextDualEncoderConfig.from_vision_text_configs(vit_config(), bert_config(hidden_act="gelu_new"),
                                                                  projection_dim=10)
    model = VisionTextDualEncoderModel(config, ViTModel(vit_config()), BertModel(bert_config(hidden_act="gelu_new")))
    model = set_weights(model, 13)
    inputs = {"pixel_values": images(4, config.vision_config, 14), **texts(4, 7, config.text_config, 15)}

    def outputs_of(m):
        o = m(**inputs, return_loss=True)
        return {"image_embeds": o.image_embeds, "text_embeds": o.text_embeds, "logits_per_text": o.logits_per_text,
                "loss": o.loss}

    write("dual_encoder", model, inputs, outputs_of)


class Multimodal(torch.nn.Module):
    """logits = classifier(concat(ViT's class token after the final norm, BERT's pooler output))."""

    def __init__(self, vision, text, labels):
        super().__init__()
        self.vision_model = ViTModel(vision, add_pooling_layer=False)
        self.text_model = BertModel(text)
        self.classifier = torch.nn.Linear(vision.hidden_size + text.hidden_size, labels)

    def forward(self, pixel_values, labels, label_smoothing, hidden_states=None, **text):
        v = self.vision_model(pixel_values, output_hidden_states=True)
        t = self.text_model(**text, output_hidden_states=True)
        logits = self.classifier(torch.cat([v.last_hidden_state[:, 0], t.pooler_output], dim=1))
        return {**hidden(v, "vision."), **hidden(t, "text."), "logits": logits,
                "loss": F.cross_entropy(logits, labels, label_smoothing=label_smoothing)}

    def tensors(self):
        result = {f"vision_model.{k}": v for k, v in file_tensors(self.vision_model).items()}
        result |= {f"text_model.{k}": v for k, v in file_tensors(self.text_model).items()}
        return result | {f"classifier.{k}": v for k, v in self.classifier.state_dict().items()}

    def gradients(self):
        result = {f"vision_model.{k}": v for k, v in file_gradients(self.vision_model).items()}
        result |= {f"text_model.{k}": v for k, v in file_gradients(self.text_model).items()}
        return result | {f"classifier.{k}": p.grad for k, p in self.classifier.named_parameters()}

    def config(self, labels):
        return {"architectures": ["DuetMultimodalClassifier"], "model_type": "duet-multimodal-classifier",
                "vision_config": self.vision_model.config.to_diff_dict() | {"model_type": "vit"},
                "text_config": self.text_model.config.to_diff_dict() | {"model_type": "bert"},
                "id2label": {str(i): l for i, l in enumerate(labels)}}


def multimodal():
    model = set_weights(Multimodal(vit_config(hidden_act="gelu_new"), bert_config(), 3), 16)
    inputs = {"pixel_values": images(4, model.vision_model.config, 17), **texts(4, 7, model.text_model.config, 18),
              "labels": torch.tensor([1, 0, 2, 2])}
    write("multimodal", model, inputs, lambda m: m(label_smoothing=0.2, **inputs), {"label_smoothing": 0.2},
          model.config(["a", "b", "c"]), Multimodal.tensors, Multimodal.gradients)


CLIPART = "/usr/share/openclipart"
CLIPART_LABELS = ["animals", "buildings", "computer", "education", "electronics", "food", "geography", "office", "people",
                  "plants", "recreation", "shapes", "signs_and_symbols", "special", "tools", "transportation"]


def clipart_samples(count, size):
    """Drawings with a title, the same number of each category: images (count, 3, size, size) u8, titles, labels."""
    from PIL import Image
    pixels, titles, labels = [], [], []
    for label, folder in enumerate(CLIPART_LABELS):
        found = []
        for base, _, files in os.walk(f"{CLIPART}/svg/{folder}"):
            for file in files:
                png = os.path.join(base, file).replace("/svg/", "/png/", 1)[:-4] + ".png"
                with open(os.path.join(base, file), encoding="utf-8", errors="replace") as f:
                    title = re.search(r"<dc:title[^>/]*>([^<]+)</dc:title>", f.read())
                if title and os.path.exists(png) and os.path.getsize(png) < 100_000:
                    found.append((png, html.unescape(html.unescape(title.group(1))).strip()))
        found.sort()
        wanted = count // len(CLIPART_LABELS)
        for png, title in found[::len(found) // wanted][:wanted]:
            image = Image.open(png).convert("RGBA")
            side = max(image.size)
            square = Image.new("RGBA", (side, side), "white")
            square.alpha_composite(image, ((side - image.width) // 2, (side - image.height) // 2))
            small = square.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
            pixels.append(np.asarray(small).transpose(2, 0, 1))
            titles.append(title)
            labels.append(label)
    return np.stack(pixels), titles, labels


def paired_run(samples=64, batch=16, steps=50, tokens=16, vocabulary=320):
    """Fifty training steps of a small multimodal classifier on real drawings and titles, in float32 and float64."""
    import tokenizers
    pixels, titles, labels = clipart_samples(samples, 32)
    tokenizer = tokenizers.BertWordPieceTokenizer(lowercase=True)
    tokenizer.train_from_iterator(titles, vocab_size=vocabulary, min_frequency=1, show_progress=False)
    tokenizer.enable_truncation(tokens)
    tokenizer.enable_padding(length=tokens)
    encoded = tokenizer.encode_batch([f"[CLS] {title} [SEP]" for title in titles])
    vision = vit_config(hidden_size=48, intermediate_size=192, num_attention_heads=3, image_size=32, patch_size=8)
    text = bert_config(hidden_size=48, intermediate_size=192, num_attention_heads=4, max_position_embeddings=tokens,
                       vocab_size=tokenizer.get_vocab_size())
    model = Multimodal(vision, text, len(CLIPART_LABELS))
    generator = torch.Generator().manual_seed(19)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(0.05 * torch.randn(p.shape, generator=generator) if p.ndim >= 2 else
                    torch.ones_like(p) if name.endswith("weight") else torch.zeros_like(p))
    epochs = [torch.randperm(samples, generator=generator) for _ in range(-(-steps * batch // samples))]
    order = torch.cat(epochs)[:steps * batch].reshape(steps, batch)
    settings = {**SETTINGS, "learning_rate": 2e-3, "weight_decay": 0.05, "warmup": 5, "steps": steps}
    ids = torch.tensor([e.ids for e in encoded])
    mask = torch.tensor([e.attention_mask for e in encoded])
    expected = {"input.pixels": torch.from_numpy(pixels.copy()), "input.input_ids": ids.int(),
                "input.attention_mask": mask.to(torch.uint8), "input.labels": torch.tensor(labels),
                "input.order": order}
    directory = os.path.join(FIXTURES, "paired_run")
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "config.json"), "w") as f:
        f.write(json.dumps(model.config(CLIPART_LABELS), indent=2) + "\n")
    safetensors.torch.save_file({k: v.contiguous() for k, v in model.tensors().items()},
                                os.path.join(directory, "model.safetensors"), {"format": "pt"})
    for dtype in (torch.float32, torch.float64):
        normalised = ((expected["input.pixels"].double() / 255 - 0.5) / 0.5).to(dtype)

        def loss_of(m, rows):
            return m(normalised[rows], expected["input.labels"][rows], 0.0, input_ids=ids[rows],
                     attention_mask=mask[rows])["loss"]

        losses, norms = train(copy.deepcopy(model).to(dtype).eval(), loss_of, settings, steps, order)
        expected[f"training.losses.{str(dtype)[6:]}"] = torch.tensor(losses, dtype=torch.float64)
        print("paired_run", dtype, [round(x, 3) for x in losses], [round(x, 2) for x in norms])
    safetensors.torch.save_file(expected, os.path.join(directory, "expected.safetensors"),
                                {"format": "pt", "settings": json.dumps(settings)})
    print("first titles", titles[:4], encoded[0].tokens)


FIXTURE_MAKERS = {f.__name__: f for f in (vit_model, vit_classifier, bert_model, bert_classifier, bert_masked_lm,
                                          dual_encoder, multimodal, paired_run)}

if __name__ == "__main__":
    for fixture in sys.argv[1:] or FIXTURE_MAKERS:
        FIXTURE_MAKERS[fixture]()
