#pragma once

#include "duet/train/dataset_writer.h"

namespace duet::train {

// Fashion-MNIST: 28 x 28 grey images without text, 60,000 of train, the last 5,000 of which become val, and 10,000 of
// test. An image is named as one of an IDX file, "train-images-idx3-ubyte.gz#17". `root` holds the four IDX files.
// Throws Error naming the package when one is missing, or the file when it is damaged.
std::vector<SourceRow> read_fashion_mnist(const std::string& root = "/usr/share/datasets/fashion-mnist");

const std::vector<std::string>& fashion_mnist_labels();

// The files that rows refer to.
std::vector<std::string> fashion_mnist_image_files();

}  // namespace duet::train
