#pragma once

#include <cstdint>
#include <vector>

#include "duet/train/image.h"

namespace duet::train {

// One axis of the resize: output position i is the weighted sum of input positions [first, first + count).
struct AxisWeights {
  struct Window {
    int first, count;
    size_t weights;  // where its weights begin
  };
  std::vector<Window> windows;
  std::vector<int32_t> weights;  // fixed point, resize_precision_bits after the point
};
constexpr int resize_precision_bits = 22;

AxisWeights axis_weights(int from, int to, Resample resample);

// Pillow's antialiased resize (Resample.c, 8-bit path), fed with rows: a horizontal pass per row, rounded to 8 bits,
// then a vertical pass that keeps running sums only for the output rows still open. Integer sums do not depend on the
// order of their terms, hence the same bits as over the whole image. An axis of unchanged size is skipped.
//
// The horizontal pass always comes first, as in Pillow up to 12.1. Pillow 12.2 starts with the vertical pass when
// height > 100 * width, and 13.0 whenever the height shrinks clearly more than the width; that saves time in a
// whole-image resize, moves some values by one level, and is the same for a resize that keeps the aspect ratio.
class RowResizer {
 public:
  RowResizer(int width, int height, int new_width, int new_height, Resample resample);

  void push(const uint8_t* row);  // the next row of width * 3 bytes
  Image finish();                 // after the last row

 private:
  void make_groups();
  void resize_row(const uint8_t* row);  // into line_
  void add_row(const uint8_t* row);

  // Neighbouring output pixels whose windows are summed together, four inputs of each at a time.
  struct Group {
    int first;        // input position
    int quads;        // times four inputs
    size_t operands;  // where its vectors begin
  };

  AxisWeights horizontal_, vertical_;  // no windows: unchanged
  Image image_;
  std::vector<Group> groups_;               // none where these are not used
  std::vector<uint8_t> operands_;           // of groups
  std::vector<int32_t> lanes_;              // the horizontal weights, laid out for vectors
  std::vector<size_t> lane_begins_;         // of each window
  std::vector<uint8_t> line_;               // a row after the horizontal pass
  std::vector<std::vector<int32_t>> sums_;  // of open output rows; row i has slot i % size
  int width_, height_, y_ = 0;
  int first_open_ = 0;
};

}  // namespace duet::train
