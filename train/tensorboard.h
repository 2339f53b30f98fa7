#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "duet/core/json.h"

namespace duet::train {

// Writes one TensorBoard event file. Each record reaches the file before the call returns, so that a killed run loses
// nothing. Throws Error naming the file and the reason when it cannot be written: a full disk must not lose metrics
// silently.
class TensorBoardWriter {
 public:
  // Opens a new file in the directory, which is made when it is missing; earlier runs' files stay.
  explicit TensorBoardWriter(const std::string& directory);
  ~TensorBoardWriter();
  TensorBoardWriter(const TensorBoardWriter&) = delete;
  TensorBoardWriter& operator=(const TensorBoardWriter&) = delete;

  // After a restart: readers drop what earlier files say about `first_step` and later ones.
  void session_start(int64_t first_step);
  void scalar(const std::string& tag, int64_t step, double value);
  void text(const std::string& name, int64_t step, const std::string& markdown);
  void image(const std::string& tag, int64_t step, const std::string& png);
  // The options of the run, a flat object, and the scalars that its row of the table shows.
  void hparams_start(const Json& options, const std::vector<std::string>& metric_tags);
  void hparams_end(bool success);

  const std::string& path() const { return path_; }

 private:
  void write(const std::string& event);

  std::string path_;
  int file_ = -1;
};

// The bytes behind the writer: Event messages of TensorBoard's protocol buffers (event.proto, summary.proto and the
// hparams plugin's api.proto), and the TFRecord frame around each.
namespace tensorboard {

std::string record(std::string_view payload);
std::string version_event(double wall_time);
std::string session_start_event(double wall_time, int64_t step);
std::string scalar_event(double wall_time, int64_t step, const std::string& tag, double value);
std::string text_event(double wall_time, int64_t step, const std::string& name, const std::string& markdown);
// Throws Error when the bytes are no PNG.
std::string image_event(double wall_time, int64_t step, const std::string& tag, const std::string& png);
std::string hparams_experiment_event(double wall_time, const Json& options,
                                     const std::vector<std::string>& metric_tags);
std::string hparams_start_event(double wall_time, const Json& options);
std::string hparams_end_event(double wall_time, bool success);

}  // namespace tensorboard
}  // namespace duet::train
