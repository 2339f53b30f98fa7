#include "duet/train/model_readme.h"

#include <algorithm>

#include "duet/train/report_text.h"

namespace duet::train {
namespace {

struct Kind {
  const char *architecture, *title, *about, *keys;
};
constexpr Kind kinds[] = {
    {"DuetMultimodalClassifier", "Image and text classifier",
     "A vision transformer (ViT) and a BERT encoder with one linear layer on both: logits = classifier(concat(a, b)), "
     "a "
     "being ViT's class token after the final layer norm and b BERT's pooler output, or with \"text_pooling\": "
     "\"mean\" "
     "in config.json the mean of its tokens.",
     "`vision_model.*` is a ViTModel without pooler, `text_model.*` a BertModel, each with the keys that Transformers "
     "saves them with; `classifier.weight` (labels, vision + text width) and `classifier.bias` (labels) are the head."},
    {"ViTForImageClassification", "Image classifier",
     "A vision transformer (ViT) with a linear layer on its class "
     "token.",
     "`vit.*` is the encoder, `classifier.*` the head."},
    {"BertForSequenceClassification", "Text classifier", "A BERT encoder with a linear layer on its pooler output.",
     "`bert.*` is the encoder, `classifier.*` the head."},
    {"BertForMaskedLM", "Masked language model", "A BERT encoder that predicts masked tokens.",
     "`bert.*` is the encoder, `cls.*` the head."},
    {"VisionTextDualEncoderModel", "Image and text encoders",
     "A vision transformer (ViT) and a BERT encoder that give an image and its text similar unit vectors.",
     "`vision_model.*` and `text_model.*` are the encoders, `visual_projection.weight` and `text_projection.weight` "
     "map "
     "to the common space, `logit_scale` is the logarithm of the similarities' scale."},
};

// Before the part that prepares images, and after it.
constexpr const char* multimodal_start = R"(import json, sys, torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision.transforms.functional import normalize, pil_to_tensor
from transformers import BertConfig, BertModel, BertTokenizer, ViTConfig, ViTModel

directory, image_file, text = sys.argv[1:]
config, processor = (json.load(open(f"{directory}/{name}.json")) for name in ("config", "preprocessor_config"))
weights = load_file(f"{directory}/model.safetensors")

part = lambda name: {k[len(name) + 1:]: v for k, v in weights.items() if k.startswith(name + ".")}

def encoder(kind, settings, name, **options):
    # from_pretrained and not load_state_dict, because Transformers 5 renames ViT's layers as it loads them.
    model, info = kind.from_pretrained(None, config=settings, state_dict=part(name), output_loading_info=True, **options)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()

mean, head = config.get("text_pooling") == "mean", part("classifier")
vit = encoder(ViTModel, ViTConfig(**config["vision_config"]), "vision_model", add_pooling_layer=False)
bert = encoder(BertModel, BertConfig(**config["text_config"]), "text_model", add_pooling_layer=not mean)
side = vit.config.image_size
image = ImageOps.exif_transpose(Image.open(image_file)).convert("RGBA")
image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
)";
constexpr const char* multimodal_stretch = R"(image = image.resize((side, side), processor["resample"])
)";
constexpr const char* multimodal_pad =
    R"(width, height = (max(1, int(n * side / max(image.size) + 0.5)) for n in image.size)
square = Image.new("RGB", (side, side), "white")
square.paste(image.resize((width, height), processor["resample"]), ((side - width) // 2, (side - height) // 2))
image = square
)";
constexpr const char* multimodal_edge = R"(edge, (width, height) = processor["size"]["shortest_edge"], image.size
size = (edge, edge * height // width) if width <= height else (edge * width // height, edge)
image = image.resize(size, processor["resample"])
)";
constexpr const char* multimodal_crop =
    R"(image = image.crop((x := (image.width - side) // 2, y := (image.height - side) // 2, x + side, y + side))
)";
constexpr const char* multimodal_end =
    R"(pixels = normalize(pil_to_tensor(image) * processor["rescale_factor"], processor["image_mean"], processor["image_std"])[None]
with torch.no_grad():
    texts = bert(**BertTokenizer.from_pretrained(directory)(text, truncation=True, return_tensors="pt"))
    pooled = vit(pixels).last_hidden_state[:, 0], texts.last_hidden_state.mean(dim=1) if mean else texts.pooler_output
    logits = torch.nn.functional.linear(torch.cat(pooled, dim=1), head["weight"], head["bias"])
for label, probability in zip(config["id2label"].values(), logits.softmax(dim=1)[0].tolist()):
    print(f"{probability:.6f}  {label}")
)";

std::string multimodal_code(const InputConfig& input) {
  std::string code = multimodal_start;
  switch (input.steps.fit) {
    case Fit::pad:
      code += multimodal_pad;
      break;
    case Fit::stretch:
      code += multimodal_stretch;
      break;
    case Fit::shortest_edge:
      code += multimodal_edge;
      break;
    case Fit::keep:
      break;
  }
  return code + (input.steps.crop ? multimodal_crop : "") + multimodal_end;
}

std::string from_pretrained(const std::string& architecture, const InputConfig& input) {
  std::string names = architecture, lines = "model = " + architecture + ".from_pretrained(directory)\n";
  if (input.use_text) {
    names = "BertTokenizer, " + names;
    lines += "tokenizer = BertTokenizer.from_pretrained(directory)\n";
  }
  if (input.use_images) {
    names += ", ViTImageProcessor";
    lines += "processor = ViTImageProcessor.from_pretrained(directory)\n";
  }
  return "import sys\n\nfrom transformers import " + names + "\n\ndirectory = sys.argv[1]\n" + lines;
}

// One line of what the run's config.json tells; the names of people's files stay there.
std::string training_line(const Json& run) {
  std::string line = "Trained with `duet " + json_get<std::string>(run, "stage", "") + "`";
  const Json& data = child(run, "data");
  if (!data.empty()) {
    line += " on " + thousands(json_get<int64_t>(data[0], "train", 0)) + " samples of the data set " +
            json_get<std::string>(data[0], "name", "");
  }
  return line + ".";
}

std::string sizes(const char* what, const Json& config) {
  return text("- ", what, ": ", config.at("num_hidden_layers"), " layers, ", config.at("hidden_size"), " wide, ",
              config.at("num_attention_heads"), " heads");
}

}  // namespace

std::string model_readme(const Json& model, const InputConfig& input, const Json& run) {
  const auto architecture = model.at("architectures").at(0).get<std::string>();
  const auto* kind =
      std::find_if(std::begin(kinds), std::end(kinds), [&](const Kind& k) { return k.architecture == architecture; });
  check(kind != std::end(kinds), "readme", "unknown architecture \"", architecture, "\"");
  const bool multimodal = kind == kinds;
  std::string page = text("# ", kind->title, "\n\n", kind->about, "\n", training_line(run), "\n\n");
  const Json& vision = model.contains("vision_config") ? model["vision_config"] : model;
  const Json& bert = model.contains("text_config") ? model["text_config"] : model;
  if (input.use_images)
    page += sizes("images", vision) + text(", ", vision.at("image_size"), " x ", vision.at("image_size"),
                                           " pixels in patches of ", vision.at("patch_size"), "\n");
  if (input.use_text)
    page += sizes("texts", bert) +
            text(", up to ", input.max_length, " tokens of a vocabulary of ", bert.at("vocab_size"), "\n");
  if (model.contains("id2label")) page += text("- labels: ", model["id2label"].size(), ", listed in config.json\n");
  page += text("- keys in model.safetensors: ", kind->keys, "\n\n");

  if (multimodal)
    page +=
        "Transformers has no class for it, but for its parts. This program prints the probability of every label. "
        "Save it as classify.py and run `python classify.py MODEL_DIRECTORY IMAGE \"TEXT\"`; it needs torch, "
        "torchvision, transformers, safetensors and pillow.\n\n";
  else
    page += "To load it with Hugging Face Transformers:\n\n";
  page += "```python\n" + (multimodal ? multimodal_code(input) : from_pretrained(architecture, input)) + "```\n";
  if (!multimodal && input.use_images && input.steps.fit == Fit::pad)
    page +=
        "\nThe model was trained on images centred on a white square before they were resized, which "
        "ViTImageProcessor does not do.\n";
  return page;
}

}  // namespace duet::train
