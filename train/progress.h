#pragma once

#include <chrono>
#include <cstdint>
#include <string>

namespace duet::train {

// Seconds since construction or the last restart.
class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  void restart() { start_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Progress on stderr: one line redrawn in place on a terminal, a plain line every ten seconds otherwise.
class Progress {
 public:
  Progress(std::string label, int64_t done, int64_t total);
  ~Progress();

  // After each step: counts in steps; `samples_per_second` and the time left come from the recent past.
  void update(int64_t done, int64_t samples, double loss, double learning_rate);
  // The same for work that is counted in items and has no loss.
  void update(int64_t done);
  // Prints a line of its own above the bar.
  void note(const std::string& line);
  double samples_per_second() const { return rate_; }

 private:
  bool is_due(int64_t done);
  double seconds_left(int64_t done) const;
  void draw(int64_t done, const std::string& numbers);
  void clear();

  std::string label_;
  int64_t first_, total_, samples_ = 0;
  double rate_ = 0;
  bool terminal_, drawn_ = false;
  Stopwatch since_start_, since_print_;
};

// "1:02:03" or "2:03" for a number of seconds.
std::string format_duration(double seconds);

}  // namespace duet::train
