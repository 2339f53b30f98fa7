#include "duet/train/fashion_mnist.h"

#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <memory>

namespace duet::train {
namespace {

constexpr size_t validation_rows = 5000;

std::string image_file(const std::string& part) {
  return part + "-images-idx3-ubyte.gz";
}

// A gzip file's content, all of it, or its first bytes.
std::string inflate(const std::string& path, size_t limit = SIZE_MAX) {
  check(std::filesystem::exists(path), "fashion-mnist", path,
        " is missing; install it with `apt install dataset-fashion-mnist`, or name its place with --source");
  const std::unique_ptr<gzFile_s, int (*)(gzFile)> file(::gzopen(path.c_str(), "rb"), ::gzclose);
  check(file != nullptr, "fashion-mnist", "cannot open ", path);
  std::string bytes;
  char block[65536];
  while (bytes.size() < limit) {
    const int n = ::gzread(file.get(), block, sizeof block);
    check(n >= 0, "fashion-mnist", path, " is damaged: its gzip data cannot be read");
    if (n == 0) break;
    bytes.append(block, static_cast<size_t>(n));
  }
  int status = 0;
  ::gzerror(file.get(), &status);
  check(status == Z_OK || status == Z_STREAM_END, "fashion-mnist", path, " is damaged: its gzip data end too early");
  return bytes;
}

size_t big_endian(const std::string& bytes, size_t at) {
  size_t value = 0;
  for (size_t i = at; i < at + 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
  return value;
}

// IDX header: two zero bytes, 8 for bytes, the number of dimensions, then each dimension.
std::vector<size_t> dimensions(const std::string& bytes, const std::string& path, size_t rank) {
  check(bytes.size() >= 4 + 4 * rank && big_endian(bytes, 0) == (0x800 | rank), "fashion-mnist", path,
        " is no IDX file of bytes in ", rank, " dimension(s)");
  std::vector<size_t> sizes;
  for (size_t i = 0; i < rank; ++i) sizes.push_back(big_endian(bytes, 4 + 4 * i));
  return sizes;
}

}  // namespace

const std::vector<std::string>& fashion_mnist_labels() {
  static const std::vector<std::string> labels = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                                  "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
  return labels;
}

std::vector<std::string> fashion_mnist_image_files() {
  return {image_file("train"), image_file("t10k")};
}

std::vector<SourceRow> read_fashion_mnist(const std::string& root) {
  std::vector<SourceRow> rows;
  for (const std::string part : {"train", "t10k"}) {
    const std::string label_path = root + "/" + part + "-labels-idx1-ubyte.gz",
                      image_path = root + "/" + image_file(part);
    const std::string labels = inflate(label_path);
    const size_t count = dimensions(labels, label_path, 1)[0];
    check(labels.size() == 8 + count, "fashion-mnist", label_path, " announces ", count, " labels and holds ",
          labels.size() - 8);
    const std::vector<size_t> images = dimensions(inflate(image_path, 16), image_path, 3);
    check(images[0] == count, "fashion-mnist", image_path, " holds ", images[0], " images, ", label_path, " ", count,
          " labels");
    for (size_t i = 0; i < count; ++i) {
      const auto label = static_cast<unsigned char>(labels[8 + i]);
      check(label < fashion_mnist_labels().size(), "fashion-mnist", label_path, ": label ", i, " is ", int{label},
            ", the last class is 9");
      std::string number = std::to_string(i);
      number.insert(0, 5 - std::min<size_t>(5, number.size()), '0');
      const char* split = part == "t10k" ? "test" : i + validation_rows < count ? "train" : "val";
      rows.push_back({.id = (part == "t10k" ? "test-" : "train-") + number,
                      .label = fashion_mnist_labels()[label],
                      .split = split,
                      .image = text(image_file(part), "#", i),
                      .has_text = false});
    }
  }
  return rows;
}

}  // namespace duet::train
