#include "duet/train/loader.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>

#include "duet/core/op_scope.h"
#include "duet/core/parallel.h"
#include "duet/core/thread_name.h"
#include "duet/train/idx.h"

namespace duet::train {
namespace {

// The name of a part that is used and that the sample lacks, or null.
const char* missing_part(const Sample& sample, const InputConfig& config) {
  if (config.use_images && !sample.has_image()) return "image";
  if (config.use_text && !sample.has_text) return "text";
  if (config.use_labels && !sample.has_label()) return "label";
  return nullptr;
}

}  // namespace

SampleSource::SampleSource(const Dataset& dataset, std::vector<Sample> samples,
                           std::shared_ptr<const Tokenizer> tokenizer, InputConfig config, int64_t cache_bytes)
    : directory_(dataset.directory()),
      samples_(std::move(samples)),
      tokenizer_(std::move(tokenizer)),
      config_(config),
      cache_bytes_(cache_bytes) {
  check(!samples_.empty(), "loader", directory_, ": no samples to load");
  for (const Sample& s : samples_) {
    const char* missing = missing_part(s, config_);
    check(missing == nullptr, "loader", directory_, ": sample ", s.id, " has no ", missing);
    if (config_.use_images) image_paths_.push_back(dataset.image_path(s));
  }
  if (config_.use_images) {
    check_output_size(config_.steps, config_.image_size);
    cache_.resize(samples_.size());
  }
  if (!config_.use_text) return;
  check(tokenizer_ != nullptr, "loader", "texts are used but no vocabulary was given; pass --vocab FILE");
  ids_.resize(samples_.size());
  for (int64_t id = 0; id < tokenizer_->size(); ++id) breaks_.push_back(is_break(tokenizer_->token(id)));
  parallel_for(static_cast<int64_t>(samples_.size()), 256, [&](int64_t begin, int64_t end) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
      ids_[i] = tokenizer_->encode(samples_[i].text, config_.max_length).ids;
  });
}

Image SampleSource::decode(size_t sample) const {
  const OpScope scope("decode", ScopeKind::data);
  try {
    Image image = load_fitted_reference(image_paths_[sample], config_.steps, config_.image_size, config_.decode);
    check_image_size(image, config_.steps, config_.image_size, image_paths_[sample]);
    return image;
  } catch (const Error& e) {
    fail("loader", "sample ", samples_[sample].id, ": ", e.what());
  }
}

Image SampleSource::image(size_t sample) const {
  Image image{config_.image_size, config_.image_size, {}};
  {
    const std::lock_guard lock(mutex_);
    if (!cache_[sample].empty()) {
      image.rgb = cache_[sample];
      return image;
    }
  }
  image = decode(sample);
  const auto bytes = static_cast<int64_t>(image.rgb.size());
  const std::lock_guard lock(mutex_);
  if (cache_[sample].empty() && cached_bytes_ + bytes <= cache_bytes_) {
    cache_[sample] = image.rgb;
    cached_bytes_ += bytes;
  }
  return image;
}

void SampleSource::read_ahead(size_t sample) const {
  {
    const std::lock_guard lock(mutex_);
    if (!cache_[sample].empty()) return;
  }
  // Whatever fails here fails again, and is reported, when the image is loaded.
  const int file = ::open(image_paths_[sample].c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) return;
  ::posix_fadvise(file, 0, 0, POSIX_FADV_WILLNEED);
  ::close(file);
}

Loader::Loader(std::shared_ptr<const SampleSource> source, LoaderConfig config, int64_t first_batch)
    : source_(std::move(source)), config_(config), next_to_make_(first_batch), next_to_give_(first_batch) {
  check(config_.batch > 0, "loader", "--batch must be positive, got ", config_.batch);
  check(config_.workers >= 0, "loader", "the number of workers must not be negative, got ", config_.workers);
  batches_per_epoch_ = (static_cast<int64_t>(source_->size()) + config_.batch - 1) / config_.batch;
  for (int i = 0; i < config_.workers; ++i)
    workers_.emplace_back([this, i] {
      name_thread(text("loader ", i));
      // On Linux this is the thread's own priority. While batches are ready, loading must not take a core from one of
      // the threads that compute a step, since the others would wait for it; when none is ready, the cores are free.
      setpriority(PRIO_PROCESS, 0, 10);
      work();
    });
}

Loader::~Loader() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  space_changed_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

std::shared_ptr<const std::vector<size_t>> Loader::order(int64_t epoch) {
  const std::lock_guard lock(order_mutex_);
  const auto known = orders_.find(epoch);
  if (known != orders_.end()) return known->second;
  std::vector<size_t> order(source_->size());
  std::iota(order.begin(), order.end(), size_t{0});
  if (config_.shuffle)
    Random(RandomKey{config_.seed, 0}.child("shuffle").child(static_cast<uint64_t>(epoch))).shuffle(order);
  while (orders_.size() > 2) orders_.erase(orders_.begin());
  return orders_[epoch] = std::make_shared<const std::vector<size_t>>(std::move(order));
}

namespace {

// Dynamic masking of BERT: each ordinary token is chosen with probability p; 80 % of the chosen become [MASK], 10 % a
// random token, 10 % stay. Appends position and original id of the chosen ones.
void mask_tokens(const Tokenizer& tokenizer, double p, Random random, int32_t* ids, int64_t count, int64_t first,
                 std::vector<int64_t>& positions, std::vector<int64_t>& originals) {
  for (int64_t i = 0; i < count; ++i) {
    if (tokenizer.is_special(ids[i]) || random.uniform() >= p) continue;
    positions.push_back(first + i);
    originals.push_back(ids[i]);
    const double how = random.uniform();
    if (how < 0.8)
      ids[i] = tokenizer.mask_id();
    else if (how < 0.9)
      ids[i] = static_cast<int32_t>(random.below(static_cast<uint64_t>(tokenizer.size())));
  }
}

// Calls f(i) for every i below n on `threads` threads at most, each taking the next i when it is done with one: images
// differ too much in size to be divided beforehand.
template <class F>
void share_out(size_t n, int threads, F f) {
  std::atomic<size_t> next{0};
  parallel_for(threads, 1, [&](int64_t begin, int64_t end) {
    for (; begin < end; ++begin)
      for (size_t i = next++; i < n; i = next++) f(i);
  });
}

}  // namespace

// A worker is one of several, and the pool's threads belong to those that compute.
int Loader::threads_to_use() const {
  return config_.workers > 0 ? 1 : threads();
}

Loader::Plan Loader::plan(int64_t number) {
  const int64_t epoch = number / batches_per_epoch_, index = number % batches_per_epoch_;
  const auto whole_epoch = order(epoch);
  const auto size = static_cast<int64_t>(whole_epoch->size());
  const int64_t begin = index * config_.batch, end = std::min(size, begin + config_.batch);
  return {{whole_epoch->begin() + begin, whole_epoch->begin() + end},
          RandomKey{config_.seed, 1}.child(static_cast<uint64_t>(epoch))};
}

std::vector<Image> Loader::load_images(Plan& plan, int64_t number) {
  // While this batch is made and used, the disk can be at the next one. Workers are ahead anyway.
  const std::vector<size_t> later = config_.workers > 0 ? std::vector<size_t>() : Loader::plan(number + 1).samples;
  const size_t n = plan.samples.size();
  std::vector<Image> images(n);
  std::vector<std::exception_ptr> failures(n);
  const BadSample on_bad_sample = source_->config().on_bad_sample;
  std::atomic<size_t> end{n};
  share_out(n, threads_to_use(), [&](size_t i) {
    if (i < later.size()) source_->read_ahead(later[i]);
    if (i >= end) return;
    const size_t sample = plan.samples[i];
    try {
      images[i] = augment(source_->image(sample), config_.augment, plan.key.child("augment").child(sample));
    } catch (...) {
      failures[i] = std::current_exception();
      // What comes later in the order need not be loaded any more, but all before it: the first failure is reported.
      if (on_bad_sample == BadSample::skip) return;
      for (size_t known = end; i < known && !end.compare_exchange_weak(known, i);) {
      }
    }
  });
  size_t kept = 0;
  for (size_t i = 0; i < n; ++i) {
    try {
      if (failures[i]) std::rethrow_exception(failures[i]);
    } catch (const Error& e) {
      if (on_bad_sample == BadSample::stop) throw;
      const std::lock_guard lock(mutex_);
      if (std::find(skipped_.begin(), skipped_.end(), e.what()) == skipped_.end()) skipped_.emplace_back(e.what());
      continue;
    }
    plan.samples[kept] = plan.samples[i];
    std::swap(images[kept++], images[i]);
  }
  plan.samples.resize(kept);
  images.resize(kept);
  return images;
}

Batch Loader::make(int64_t number) {
  const OpScope scope("batch", ScopeKind::data);
  const InputConfig& input = source_->config();
  Plan planned = plan(number);
  std::vector<Image> images;
  if (input.use_images) images = load_images(planned, number);
  const RandomKey& key = planned.key;
  Batch batch;
  batch.samples = std::move(planned.samples);
  const int64_t count = batch.size();
  if (input.use_images) {
    const int64_t side = input.image_size;
    const OpScope pixels("pixels", ScopeKind::data);
    batch.images = Tensor::empty({count, 3, side, side}, DType::f32);
    float* const out = batch.images.data<float>();
    share_out(images.size(), threads_to_use(),
              [&](size_t i) { to_chw(images[i], input.steps, out + static_cast<int64_t>(i) * 3 * side * side); });
  }
  if (input.use_labels) {
    batch.labels = Tensor::empty({count}, DType::i64);
    for (size_t i = 0; i < batch.samples.size(); ++i)
      batch.labels.data<int64_t>()[i] = source_->samples()[batch.samples[i]].label;
  }
  if (input.use_text) {
    const OpScope tokens_scope("tokens", ScopeKind::data);
    std::vector<std::vector<int32_t>> texts;
    size_t longest = 1;
    for (const size_t s : batch.samples) {
      texts.push_back(
          augment_tokens(source_->ids(s), config_.augment, key.child("augment text").child(s), source_->breaks()));
      longest = std::max(longest, texts.back().size());
    }
    const auto tokens = static_cast<int64_t>(longest);
    batch.text.ids = Tensor::full({count, tokens}, DType::i32, source_->tokenizer().pad_id());
    batch.text.mask = Tensor::zeros({count, tokens}, DType::u8);
    std::vector<int64_t> positions, originals;
    for (size_t i = 0; i < batch.samples.size(); ++i) {
      const std::vector<int32_t>& ids = texts[i];
      const int64_t first = static_cast<int64_t>(i) * tokens;
      int32_t* row = batch.text.ids.data<int32_t>() + first;
      std::copy(ids.begin(), ids.end(), row);
      std::fill_n(batch.text.mask.data<uint8_t>() + first, ids.size(), uint8_t{1});
      if (config_.mask_probability > 0)
        mask_tokens(source_->tokenizer(), config_.mask_probability, Random(key.child("mask").child(batch.samples[i])),
                    row, static_cast<int64_t>(ids.size()), first, positions, originals);
    }
    if (config_.mask_probability > 0) {
      const auto masked = static_cast<int64_t>(positions.size());
      batch.masked_positions = Tensor::from({masked}, positions);
      batch.labels = Tensor::from({masked}, originals);
    }
  }
  return batch;
}

void Loader::work() {
  for (;;) {
    int64_t number;
    {
      std::unique_lock lock(mutex_);
      space_changed_.wait(lock, [&] { return stopping_ || next_to_make_ < next_to_give_ + config_.prefetch; });
      if (stopping_) return;
      number = next_to_make_++;
    }
    Slot slot;
    try {
      slot.batch = make(number);
    } catch (...) {
      slot.error = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      ready_.emplace(number, std::move(slot));
    }
    ready_changed_.notify_all();
  }
}

Batch Loader::next() {
  if (config_.workers == 0) return make(next_to_give_++);
  Slot slot;
  {
    std::unique_lock lock(mutex_);
    ready_changed_.wait(lock, [&] { return ready_.contains(next_to_give_); });
    slot = std::move(ready_.extract(next_to_give_).mapped());
    ++next_to_give_;
  }
  space_changed_.notify_all();
  if (slot.error) std::rethrow_exception(slot.error);
  return std::move(slot.batch);
}

std::vector<Sample> complete_samples(std::vector<Sample> samples, const InputConfig& config,
                                     std::vector<std::string>& skipped) {
  if (config.on_bad_sample == BadSample::stop) return samples;
  std::erase_if(samples, [&](const Sample& s) {
    const char* missing = missing_part(s, config);
    if (missing != nullptr) skipped.push_back(text("sample ", s.id, ": has no ", missing));
    return missing != nullptr;
  });
  return samples;
}

std::vector<std::string> describe_skipped(const std::vector<std::string>& skipped) {
  if (skipped.empty()) return {};
  std::vector<std::string> lines{text("skipped ", skipped.size(), " bad sample", skipped.size() > 1 ? "s" : "", ":")};
  for (const std::string& reason : skipped) lines.push_back("  " + reason);
  return lines;
}

std::vector<std::string> Loader::skipped() const {
  const std::lock_guard lock(mutex_);
  return skipped_;
}

}  // namespace duet::train
