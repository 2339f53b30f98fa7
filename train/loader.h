#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "duet/train/augment.h"
#include "duet/train/batch.h"
#include "duet/train/dataset.h"
#include "duet/train/image_steps.h"
#include "duet/train/tokenizer.h"

namespace duet::train {

// How samples become tensors.
struct InputConfig {
  bool use_images = true, use_text = true, use_labels = true;
  int image_size = 64;  // the model takes image_size x image_size pixels
  ImageSteps steps;
  int max_length = 32;  // tokens, special ones included
  DecodeOptions decode;
  BadSample on_bad_sample = BadSample::stop;
};

// A split held ready for batching: texts are tokenised once; decoded and resized images are kept as bytes while they
// fit into the cache.
class SampleSource {
 public:
  // The tokenizer may be null when texts are not used. Throws Error when a sample lacks a part that is used.
  SampleSource(const Dataset& dataset, std::vector<Sample> samples, std::shared_ptr<const Tokenizer> tokenizer,
               InputConfig config, int64_t cache_bytes = int64_t{1} << 30);

  size_t size() const { return samples_.size(); }
  const std::vector<Sample>& samples() const { return samples_; }
  const InputConfig& config() const { return config_; }
  const Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::vector<int32_t>& ids(size_t sample) const { return ids_[sample]; }
  // Of each token id, whether it ends a part of a text; for augment_tokens.
  const std::vector<bool>& breaks() const { return breaks_; }
  // The resized image; thread-safe. Errors carry the sample's id and file.
  Image image(size_t sample) const;
  // Lets the system read the file of an image that will be wanted soon, without waiting for it.
  void read_ahead(size_t sample) const;

 private:
  Image decode(size_t sample) const;

  std::string directory_;
  std::vector<Sample> samples_;
  std::vector<std::string> image_paths_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  InputConfig config_;
  std::vector<std::vector<int32_t>> ids_;
  std::vector<bool> breaks_;
  int64_t cache_bytes_;
  mutable std::mutex mutex_;
  mutable int64_t cached_bytes_ = 0;
  mutable std::vector<std::vector<uint8_t>> cache_;
};

// The samples that have every part that is used. With BadSample::skip the others are left out and named in `skipped`;
// with BadSample::stop all stay, and SampleSource throws at the first that lacks something.
std::vector<Sample> complete_samples(std::vector<Sample> samples, const InputConfig& config,
                                     std::vector<std::string>& skipped);

// "skipped 2 bad samples" and a line for each, or nothing when there were none.
std::vector<std::string> describe_skipped(const std::vector<std::string>& skipped);

struct LoaderConfig {
  int64_t batch = 32;
  bool shuffle = true;
  uint64_t seed = 0;
  Augment augment = Augment::none;
  double mask_probability = 0;  // > 0: masked-language modelling
  int workers = 0;   // threads that make batches ahead; 0: all compute threads make each when it is asked for
  int prefetch = 4;  // batches that workers hold ready
};

// Batches of a source, numbered 0, 1, 2, ... over all epochs. Batch n is a function of the seed and n alone, so the
// order depends on neither the number of workers nor on where a resumed run starts. An epoch's last batch may be small.
class Loader {
 public:
  Loader(std::shared_ptr<const SampleSource> source, LoaderConfig config, int64_t first_batch = 0);
  ~Loader();

  // The next batch. Throws what making it threw.
  Batch next();
  int64_t batches_per_epoch() const { return batches_per_epoch_; }
  const SampleSource& source() const { return *source_; }
  // Bad samples left out so far, one line of text each.
  std::vector<std::string> skipped() const;

 private:
  struct Slot {
    Batch batch;
    std::exception_ptr error;
  };
  // The samples of a batch and what makes their random numbers.
  struct Plan {
    std::vector<size_t> samples;
    RandomKey key;
  };
  Plan plan(int64_t number);
  // The images of the samples; bad ones are taken out of the plan.
  std::vector<Image> load_images(Plan& plan, int64_t number);
  Batch make(int64_t number);
  int threads_to_use() const;
  std::shared_ptr<const std::vector<size_t>> order(int64_t epoch);
  void work();

  std::shared_ptr<const SampleSource> source_;
  LoaderConfig config_;
  int64_t batches_per_epoch_;
  std::mutex order_mutex_;
  std::map<int64_t, std::shared_ptr<const std::vector<size_t>>> orders_;  // of the epochs in flight

  mutable std::mutex mutex_;
  std::condition_variable ready_changed_, space_changed_;
  std::map<int64_t, Slot> ready_;
  int64_t next_to_make_, next_to_give_;
  bool stopping_ = false;
  std::vector<std::string> skipped_;
  std::vector<std::thread> workers_;
};

}  // namespace duet::train
