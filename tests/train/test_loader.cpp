#include "duet/train/loader.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <array>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <set>

#include "duet/core/parallel.h"
#include "duet/core/trace.h"
#include "duet/tests/train/tiny_data.h"

namespace duet::train {
namespace {

constexpr int worker_counts[] = {0, 1, 2, 5};

bool same_batch(const Batch& a, const Batch& b) {
  return a.samples == b.samples && same_bits(a.images, b.images) && same_bits(a.text.ids, b.text.ids) &&
         same_bits(a.text.mask, b.text.mask) && same_bits(a.labels, b.labels) &&
         same_bits(a.masked_positions, b.masked_positions);
}

std::vector<Batch> take(Loader& loader, int64_t count) {
  std::vector<Batch> batches;
  for (int64_t i = 0; i < count; ++i) batches.push_back(loader.next());
  return batches;
}

void expect_same(const std::vector<Batch>& a, const std::vector<Batch>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (size_t i = 0; i < a.size(); ++i) EXPECT_TRUE(same_batch(a[i], b[i])) << what << ", batch " << i;
}

class LoaderTest : public ::testing::Test {
 protected:
  LoaderTest() { write_tiny_dataset(data(), 22, 0, 0); }
  std::string data() const { return directory_ / "data"; }
  std::shared_ptr<const SampleSource> source(const InputConfig& input = {}) {
    return tiny_source(data(), "train", input);
  }

  TemporaryDirectory directory_;
};

TEST_F(LoaderTest, OrderDependsOnSeedAndEpochAlone) {
  const auto images_and_text = source();
  LoaderConfig config{.batch = 4, .seed = 3, .augment = Augment::basic, .workers = 0};
  Loader reference(images_and_text, config);
  ASSERT_EQ(reference.batches_per_epoch(), 6);
  const std::vector<Batch> expected = take(reference, 18);
  for (const int workers : worker_counts) {
    config.workers = workers;
    Loader loader(images_and_text, config);
    expect_same(take(loader, 18), expected, text(workers, " workers"));
  }

  std::set<std::vector<size_t>> orders;
  for (int epoch = 0; epoch < 3; ++epoch) {
    std::vector<size_t> order;
    for (int i = 0; i < 6; ++i) {
      const Batch& batch = expected[static_cast<size_t>(epoch * 6 + i)];
      EXPECT_EQ(batch.size(), i < 5 ? 4 : 2);
      EXPECT_EQ(batch.images.dim(0), batch.size());
      order.insert(order.end(), batch.samples.begin(), batch.samples.end());
    }
    orders.insert(order);
    std::sort(order.begin(), order.end());
    for (size_t i = 0; i < 22; ++i) EXPECT_EQ(order.at(i), i);
  }
  EXPECT_EQ(orders.size(), 3u);  // every epoch its own

  config.seed = 4;
  Loader other(images_and_text, config);
  EXPECT_NE(other.next().samples, expected[0].samples);
}

TEST_F(LoaderTest, ComputeThreadsMakeTheSameBatches) {
  const int before = threads();
  const auto all = source();
  const LoaderConfig config{.batch = 4, .seed = 3, .augment = Augment::basic};
  set_threads(1);
  Loader one(all, config);
  const std::vector<Batch> expected = take(one, 14);
  for (const int count : {2, 3, 7}) {
    set_threads(count);
    Loader several(source(), config);
    expect_same(take(several, 14), expected, text(count, " threads"));
  }
  set_threads(before);
}

// With one batch ready ahead, at most two are begun before the trace.
TEST_F(LoaderTest, ATraceShowsWhatWorkersDoOnTheirThreads) {
  Loader loader(source(), {.batch = 2, .workers = 1, .prefetch = 1});
  start_trace(Device{});
  take(loader, 5);
  const Trace trace = stop_trace();
  std::set<std::string> work;
  for (const TraceEvent& event : trace.events)
    if (trace.threads[static_cast<size_t>(event.thread)] == "loader 0") work.insert(event.name);
  EXPECT_EQ(work, (std::set<std::string>{"batch", "decode", "pixels", "tokens"}));
}

// Loading must not take a core from a thread that computes a step.
TEST_F(LoaderTest, ThreadsGiveWayToThoseThatCompute) {
  Loader loader(source(), {.batch = 10, .workers = 2});
  loader.next();
  const auto behind = [] {
    int count = 0;
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      std::ifstream comm(task.path() / "comm");
      std::string name;
      std::getline(comm, name);
      const auto id = static_cast<id_t>(std::stoul(task.path().filename().string()));
      count += name.starts_with("loader") && getpriority(PRIO_PROCESS, id) >= 10;
    }
    return count;
  };
  // A thread may still be starting when the other one has made the batch.
  for (int i = 0; i < 500 && behind() < 2; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  EXPECT_EQ(behind(), 2);
}

TEST_F(LoaderTest, WithoutShufflingTheOrderIsThatOfTheManifest) {
  Loader loader(source(), {.batch = 10, .shuffle = false});
  for (int epoch = 0; epoch < 2; ++epoch) {
    EXPECT_EQ(loader.next().samples, (std::vector<size_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}));
    loader.next();
    EXPECT_EQ(loader.next().samples, (std::vector<size_t>{20, 21}));
  }
}

TEST_F(LoaderTest, ResumingEqualsTheTailOfAnUninterruptedRun) {
  const auto all = source();
  LoaderConfig config{.batch = 4, .seed = 3, .augment = Augment::basic};
  Loader whole(all, config);
  const std::vector<Batch> expected = take(whole, 16);
  for (const int64_t first : {1, 5, 6, 9, 13}) {
    config.workers = static_cast<int>(first % 3);
    Loader loader(all, config, first);
    expect_same(take(loader, 16 - first), {expected.begin() + first, expected.end()}, text("from batch ", first));
  }
}

TEST_F(LoaderTest, BatchesHoldTheSamplesData) {
  const auto all = source();
  Loader loader(all, {.batch = 5, .seed = 1});
  const Batch batch = loader.next();
  EXPECT_EQ(text(batch.images), "(5, 3, 16, 16) float32");
  EXPECT_EQ(text(batch.text.ids), "(5, 4) int32");  // [CLS], two words, [SEP]
  for (int64_t i = 0; i < 5; ++i) {
    const size_t sample = batch.samples[static_cast<size_t>(i)];
    EXPECT_EQ(batch.labels.at(i), all->samples()[sample].label);
    const std::vector<int32_t>& ids = all->ids(sample);
    for (size_t t = 0; t < ids.size(); ++t) {
      EXPECT_EQ(batch.text.ids.at(i * 4 + static_cast<int64_t>(t)), ids[t]);
      EXPECT_EQ(batch.text.mask.at(i * 4 + static_cast<int64_t>(t)), 1);
    }
    const Image image = all->image(sample);
    EXPECT_NEAR(batch.images.at(i * 3 * 256 + 256 + 7), (image.rgb[7 * 3 + 1] / 255.0 - 0.5) / 0.5, 1e-6);  // green
  }
  EXPECT_FALSE(batch.masked_positions.defined());
}

TEST_F(LoaderTest, ShorterTextsArePadded) {
  std::ofstream(data() + "/manifest.jsonl") << R"({"id": "1", "text": "red round old", "split": "train"})"
                                            << "\n"
                                            << R"({"id": "2", "text": "", "split": "train"})"
                                            << "\n";
  Loader loader(source({.use_images = false, .use_labels = false}), {.batch = 2, .shuffle = false});
  const Batch batch = loader.next();
  const auto ids = batch.text.ids.values<int32_t>();
  const auto mask = batch.text.mask.values<uint8_t>();
  EXPECT_EQ(std::vector<int32_t>(ids.begin(), ids.end()), (std::vector<int32_t>{2, 5, 8, 10, 3, 2, 3, 0, 0, 0}));
  EXPECT_EQ(std::vector<uint8_t>(mask.begin(), mask.end()), (std::vector<uint8_t>{1, 1, 1, 1, 1, 1, 1, 0, 0, 0}));
  EXPECT_FALSE(batch.images.defined());
  EXPECT_FALSE(batch.labels.defined());
}

TEST_F(LoaderTest, ABadSampleStopsAndIsNamed) {
  std::ofstream(data() + "/images/s7.png", std::ios::trunc) << "no image";
  for (const int workers : worker_counts) {
    Loader loader(source(), {.batch = 4, .shuffle = false, .workers = workers});
    EXPECT_EQ(loader.next().size(), 4);
    const std::string message = message_of([&] { loader.next(); });
    EXPECT_CONTAINS(message, "sample s7: ");
    EXPECT_CONTAINS(message, "images/s7.png");
    EXPECT_EQ(loader.next().samples.front(), 8u);  // the batches after it are unharmed
  }
}

TEST_F(LoaderTest, ABadSampleIsSkippedAndCounted) {
  for (const char* name : {"s7", "s8", "s9", "s10", "s11"})
    std::ofstream(data() + "/images/" + name + ".png", std::ios::trunc) << "no image";
  const InputConfig skip{.on_bad_sample = BadSample::skip};
  LoaderConfig config{.batch = 4, .shuffle = false, .workers = 0};
  std::vector<Batch> expected;
  for (const int workers : worker_counts) {
    config.workers = workers;
    Loader loader(source(skip), config);
    const std::vector<Batch> batches = take(loader, 12);
    if (expected.empty()) expected = batches;
    expect_same(batches, expected, text(workers, " workers"));
    std::vector<std::string> skipped = loader.skipped();
    std::sort(skipped.begin(), skipped.end());
    ASSERT_EQ(skipped.size(), 5u);  // once each, over two epochs
    EXPECT_CONTAINS(skipped[0], "sample s10: ");
  }
  EXPECT_EQ(expected[1].samples, (std::vector<size_t>{4, 5, 6}));
  EXPECT_EQ(expected[2].size(), 0);  // nothing of this batch is left
  EXPECT_EQ(text(expected[2].images), "(0, 3, 16, 16) float32");
  EXPECT_EQ(expected[1].labels.numel(), 3);
}

// Which of several bad samples is reported does not depend on who was faster.
TEST_F(LoaderTest, TheFirstBadSampleIsReportedByAnyThread) {
  const int before = threads();
  for (const char* name : {"s2", "s5", "s6", "s13"})
    std::ofstream(data() + "/images/" + name + ".png", std::ios::trunc) << "no image";
  for (int attempt = 0; attempt < 20; ++attempt) {
    set_threads(1 + attempt % 5);
    Loader stopping(source(), {.batch = 20, .shuffle = false});
    EXPECT_CONTAINS(message_of([&] { stopping.next(); }), "sample s2: ");
    Loader skipping(source({.on_bad_sample = BadSample::skip}), {.batch = 20, .shuffle = false});
    EXPECT_EQ(skipping.next().size(), 16);
    const std::vector<std::string> skipped = skipping.skipped();
    ASSERT_EQ(skipped.size(), 4u);
    for (size_t i = 0; i < 4; ++i)
      EXPECT_CONTAINS(skipped[i], text("sample ", std::array{"s2", "s5", "s6", "s13"}[i], ": "));
  }
  set_threads(before);
}

TEST_F(LoaderTest, DestructorStopsWaitingWorkers) {
  const auto all = source();
  { Loader never_read(all, {.batch = 1, .workers = 3}); }
  {
    Loader full(all, {.batch = 1, .workers = 3, .prefetch = 2});
    full.next();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));  // lets the workers fill the queue and wait
  }
  std::ofstream(data() + "/images/s0.png", std::ios::trunc) << "no image";
  { Loader failing(source(), {.batch = 1, .shuffle = false, .workers = 3}); }
}

TEST_F(LoaderTest, ImagesAreDecodedOnceWhileTheyFit) {
  const int64_t bytes = 16 * 16 * 3;
  for (const bool cached : {true, false}) {
    const auto all = tiny_source(data(), "train", {}, cached ? 3 * bytes : 3 * bytes - 1);
    const Image first = all->image(0);
    all->image(1);
    const Image third = all->image(2);
    std::filesystem::rename(directory_ / "data/images", directory_ / "data/gone");
    EXPECT_EQ(all->image(0).rgb, first.rgb);
    if (cached)
      EXPECT_EQ(all->image(2).rgb, third.rgb);
    else
      EXPECT_THROW(all->image(2), Error);
    EXPECT_THROW(all->image(3), Error);
    std::filesystem::rename(directory_ / "data/gone", directory_ / "data/images");
  }
}

TEST_F(LoaderTest, IncompleteSamplesAreLeftOutAndNamedWhenSkipping) {
  std::vector<Sample> samples(3);
  for (size_t i = 0; i < samples.size(); ++i) {
    samples[i].id = text("s", i);
    samples[i].image = "a.png";
    samples[i].has_text = true;
    samples[i].label = 0;
  }
  samples[0].has_text = false;
  samples[2].label = -1;
  std::vector<std::string> skipped;
  EXPECT_EQ(complete_samples(samples, {.on_bad_sample = BadSample::stop}, skipped).size(), 3u);
  EXPECT_TRUE(skipped.empty());
  const auto complete = complete_samples(samples, {.on_bad_sample = BadSample::skip}, skipped);
  ASSERT_EQ(complete.size(), 1u);
  EXPECT_EQ(complete[0].id, "s1");
  EXPECT_EQ(skipped, (std::vector<std::string>{"sample s0: has no text", "sample s2: has no label"}));
  skipped.clear();
  EXPECT_EQ(
      complete_samples(samples, {.use_text = false, .use_labels = false, .on_bad_sample = BadSample::skip}, skipped)
          .size(),
      3u);
}

TEST_F(LoaderTest, MissingPartsAreNamedAtOnce) {
  std::ofstream(data() + "/manifest.jsonl") << R"({"id": "x1", "text": "red", "label": "a", "split": "train"})"
                                            << "\n"
                                            << R"({"id": "x2", "image": "images/s1.png", "split": "train"})"
                                            << "\n";
  EXPECT_CONTAINS(message_of([&] { source({.use_text = false, .use_labels = false}); }), "sample x1 has no image");
  EXPECT_CONTAINS(message_of([&] { source({.use_images = false, .use_labels = false}); }), "sample x2 has no text");
  EXPECT_CONTAINS(message_of([&] { source({.use_images = false, .use_text = false}); }), "sample x2 has no label");
  EXPECT_CONTAINS(message_of([&] {
                    const Dataset dataset = Dataset::open(data());
                    SampleSource(dataset, {dataset.samples()[0]}, nullptr, {.use_images = false});
                  }),
                  "--vocab");
  EXPECT_CONTAINS(
      message_of([&] { Loader(source({.use_images = false, .use_text = false, .use_labels = false}), {.batch = 0}); }),
      "--batch must be positive");
}

// Texts long enough for statistics.
class Masking : public LoaderTest {
 protected:
  Masking() {
    std::ofstream manifest(data() + "/manifest.jsonl");
    for (int i = 0; i < 60; ++i) {
      std::string words;
      for (int w = 0; w < 12; ++w) words += tiny_vocabulary[static_cast<size_t>(5 + (i + w) % 9)] + " ";
      manifest << Json{{"id", text(i)}, {"text", words}, {"split", "train"}}.dump() << '\n';
    }
  }
  std::shared_ptr<const SampleSource> texts() { return source({.use_images = false, .use_labels = false}); }
  // What became of a sample's tokens, by sample.
  static std::map<size_t, std::vector<int32_t>> masked_ids(Loader& loader) {
    std::map<size_t, std::vector<int32_t>> result;
    for (int64_t i = 0; i < loader.batches_per_epoch(); ++i) {
      const Batch batch = loader.next();
      for (size_t b = 0; b < batch.samples.size(); ++b) {
        const int32_t* row = batch.text.ids.data<int32_t>() + static_cast<int64_t>(b) * batch.tokens();
        result[batch.samples[b]] = {row, row + batch.tokens()};
      }
    }
    return result;
  }
};

TEST_F(Masking, FollowsBertsProportions) {
  const auto all = texts();
  Loader loader(all, {.batch = 7, .seed = 5, .mask_probability = 0.15});
  double tokens = 0, chosen = 0, masked = 0, kept = 0, replaced = 0;
  for (int64_t i = 0; i < 40 * loader.batches_per_epoch(); ++i) {
    const Batch batch = loader.next();
    ASSERT_EQ(batch.labels.numel(), batch.masked_positions.numel());
    tokens += 12 * static_cast<double>(batch.size());
    const auto positions = batch.masked_positions.values<int64_t>();
    EXPECT_TRUE(std::is_sorted(positions.begin(), positions.end()));
    std::set<int64_t> at(positions.begin(), positions.end());
    EXPECT_EQ(at.size(), positions.size());
    for (int64_t p = 0; p < batch.text.ids.numel(); ++p) {
      const size_t sample = batch.samples[static_cast<size_t>(p / batch.tokens())];
      const int32_t original = all->ids(sample)[static_cast<size_t>(p % batch.tokens())];
      const auto now = static_cast<int32_t>(batch.text.ids.at(p));
      if (!at.contains(p)) {
        EXPECT_EQ(now, original);
        continue;
      }
      EXPECT_GE(original, 5);  // never a special token
      ++chosen;
      masked += now == 4;
      kept += now == original;
      replaced += now != 4 && now != original;
    }
    for (int64_t k = 0; k < batch.labels.numel(); ++k) {
      const int64_t p = positions[static_cast<size_t>(k)];
      const size_t sample = batch.samples[static_cast<size_t>(p / batch.tokens())];
      EXPECT_EQ(batch.labels.at(k), all->ids(sample)[static_cast<size_t>(p % batch.tokens())]);
    }
  }
  ASSERT_EQ(tokens, 40 * 60 * 12);
  // Within four standard deviations; a random token is [MASK] or the original with probability 1 / 14 each.
  const auto expect_share = [](double part, double of, double p) {
    EXPECT_NEAR(part / of, p, 4 * std::sqrt(p * (1 - p) / of));
  };
  expect_share(chosen, tokens, 0.15);
  expect_share(masked, chosen, 0.8 + 0.1 / 14);
  expect_share(kept, chosen, 0.1 + 0.1 / 14);
  expect_share(replaced, chosen, 0.1 * 12 / 14);
}

TEST_F(Masking, DependsOnSeedAndEpochOnly) {
  const auto all = texts();
  LoaderConfig config{.batch = 7, .seed = 5, .mask_probability = 0.15, .workers = 0};
  Loader reference(all, config);
  const auto first = masked_ids(reference), second = masked_ids(reference);
  ASSERT_EQ(first.size(), 60u);
  EXPECT_NE(first, second);
  config = {.batch = 60, .shuffle = false, .seed = 5, .mask_probability = 0.15, .workers = 2};
  Loader other(all, config);
  EXPECT_EQ(masked_ids(other), first);
  EXPECT_EQ(masked_ids(other), second);
  config.seed = 6;
  Loader other_seed(all, config);
  EXPECT_NE(masked_ids(other_seed), first);
}

TEST_F(Masking, SplitsWithItsBatch) {
  Loader loader(texts(), {.batch = 11, .seed = 5, .mask_probability = 0.15});
  const Batch whole = loader.next();
  const std::vector<Batch> parts = split_batch(whole, 4);
  ASSERT_EQ(parts.size(), 3u);
  EXPECT_EQ(parts[2].size(), 3);
  std::vector<size_t> samples;
  int64_t masked = 0, row = 0;
  for (const Batch& part : parts) {
    samples.insert(samples.end(), part.samples.begin(), part.samples.end());
    for (int64_t k = 0; k < part.labels.numel(); ++k, ++masked) {
      EXPECT_EQ(part.labels.at(k), whole.labels.at(masked));
      EXPECT_EQ(part.masked_positions.at(k) + row * whole.tokens(), whole.masked_positions.at(masked));
      EXPECT_LT(part.masked_positions.at(k), part.text.ids.numel());
    }
    row += part.size();
  }
  EXPECT_EQ(samples, whole.samples);
  EXPECT_EQ(masked, whole.labels.numel());
}

}  // namespace
}  // namespace duet::train
