#include <benchmark/benchmark.h>

#include <cmath>

#include "duet/core/file.h"
#include "duet/core/philox.h"
#include "duet/train/tokenizer.h"
#include "duet/train/wordpiece_trainer.h"

// Tokenizing English-like and mixed text on one thread, in bytes per second. The texts are drawn from made-up words
// with natural frequencies and the vocabulary is learned from them. DUET_BENCH_TEXT and DUET_BENCH_VOCAB name a text
// file and a vocab.txt to measure on instead.
namespace duet {
namespace {

// Words of syllables, the r-th most frequent with probability about 1/r.
std::vector<std::string> made_up_lines(size_t bytes) {
  Random source(RandomKey{0, 0}.child("bench_tokenizer"));
  const auto pick = [&](std::string_view letters) { return letters[source.below(letters.size())]; };
  std::vector<std::string> words(20000), lines;
  for (std::string& word : words)
    for (uint64_t syllables = 1 + source.below(4); syllables > 0; --syllables) {
      word += pick("bcdfghklmnprstvw");
      word += pick("aeiou");
      if (source.uniform() < 0.4) word += pick("nrst");
    }
  for (size_t total = 0; total < bytes; total += lines.back().size()) {
    std::string line;
    for (uint64_t n = 6 + source.below(12); n > 0; --n) {
      const auto rank = static_cast<size_t>(std::pow(static_cast<double>(words.size()), source.uniform()));
      line += words[std::min(rank, words.size()) - 1] + (source.uniform() < 0.12 ? ", " : " ");
    }
    lines.push_back(line + ".");
  }
  return lines;
}

std::vector<std::string> lines_of_file(const char* path) {
  const std::string bytes = read_file(path);
  std::vector<std::string> lines;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    lines.push_back(bytes.substr(begin, end - begin));
    begin = end + 1;
  }
  return lines;
}

struct Input {
  std::vector<std::string> lines;
  int64_t bytes = 0;
  train::Tokenizer tokenizer;
};

const Input& input() {
  static const Input all = [] {
    const char *text = std::getenv("DUET_BENCH_TEXT"), *vocabulary = std::getenv("DUET_BENCH_VOCAB");
    std::vector<std::string> lines = text ? lines_of_file(text) : made_up_lines(4 << 20);
    int64_t bytes = 0;
    for (const std::string& line : lines) bytes += static_cast<int64_t>(line.size());
    const auto learn = [&] {
      train::WordPieceTrainer trainer({.vocab_size = 30522});
      for (const std::string& line : lines) trainer.add(line);
      return train::Tokenizer::from_vocab(trainer.train());
    };
    train::Tokenizer tokenizer = vocabulary ? train::Tokenizer::from_vocab_file(vocabulary) : learn();
    return Input{std::move(lines), bytes, std::move(tokenizer)};
  }();
  return all;
}

template <class Encode>
void over_lines(benchmark::State& state, Encode encode) {
  const Input& given = input();
  int64_t tokens = 0;
  for (auto _ : state)
    for (const std::string& line : given.lines) tokens += static_cast<int64_t>(encode(given.tokenizer, line));
  state.SetBytesProcessed(state.iterations() * given.bytes);
  state.counters["tokens"] = benchmark::Counter(static_cast<double>(tokens), benchmark::Counter::kIsRate);
}

void encode(benchmark::State& state) {
  over_lines(state, [](const train::Tokenizer& t, const std::string& line) { return t.encode(line).ids.size(); });
}

void encode_with_offsets(benchmark::State& state) {
  over_lines(state, [](const train::Tokenizer& t, const std::string& line) {
    return t.encode_with({.offsets = true}, line).ids.size();
  });
}

// One accented letter a line takes the whole line off the ASCII path.
void encode_unicode(benchmark::State& state) {
  over_lines(state,
             [](const train::Tokenizer& t, const std::string& line) { return t.encode(line + "\u00E9").ids.size(); });
}

BENCHMARK(encode)->Name("tokenizer/encode")->Unit(benchmark::kMillisecond);
BENCHMARK(encode_unicode)->Name("tokenizer/encode_unicode")->Unit(benchmark::kMillisecond);
BENCHMARK(encode_with_offsets)->Name("tokenizer/encode_with_offsets")->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace duet

BENCHMARK_MAIN();
