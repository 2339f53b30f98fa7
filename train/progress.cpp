#include "duet/train/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>

#include "duet/core/error.h"

namespace duet::train {

Progress::Progress(std::string label, int64_t done, int64_t total)
    : label_(std::move(label)), first_(done), total_(total), terminal_(::isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  clear();
}

void Progress::clear() {
  if (drawn_) std::cerr << "\r\033[K" << std::flush;
  drawn_ = false;
}

void Progress::note(const std::string& line) {
  clear();
  std::cerr << line << std::endl;
}

void Progress::update(int64_t done, int64_t samples, double loss, double learning_rate) {
  samples_ += samples;
  const double elapsed = since_start_.seconds();
  rate_ = elapsed > 0 ? static_cast<double>(samples_) / elapsed : 0;
  if (!is_due(done)) return;
  char numbers[160];
  std::snprintf(numbers, sizeof numbers, "step %lld/%lld  loss %.4f  lr %.2e  %.0f samples/s  %s left",
                static_cast<long long>(done), static_cast<long long>(total_), loss, learning_rate, rate_,
                format_duration(seconds_left(done)).c_str());
  draw(done, numbers);
}

void Progress::update(int64_t done) {
  const double elapsed = since_start_.seconds();
  rate_ = elapsed > 0 ? static_cast<double>(done - first_) / elapsed : 0;
  if (!is_due(done)) return;
  char numbers[120];
  std::snprintf(numbers, sizeof numbers, "%lld/%lld  %.0f a second  %s left", static_cast<long long>(done),
                static_cast<long long>(total_), rate_, format_duration(seconds_left(done)).c_str());
  draw(done, numbers);
}

bool Progress::is_due(int64_t done) {
  if (since_print_.seconds() < (terminal_ ? 0.2 : 10.0) && done != total_) return false;
  since_print_.restart();
  return true;
}

double Progress::seconds_left(int64_t done) const {
  if (done <= first_) return 0;
  return since_start_.seconds() / static_cast<double>(done - first_) * static_cast<double>(total_ - done);
}

void Progress::draw(int64_t done, const std::string& numbers) {
  if (!terminal_) {
    std::cerr << label_ << "  " << numbers << std::endl;
    return;
  }
  winsize window{};
  const int columns = ::ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;
  std::string line = label_ + "  ";
  const int room = columns - static_cast<int>(line.size()) - static_cast<int>(numbers.size()) - 4;
  if (room >= 8) {
    const int width = std::min(room, 30);
    const auto full = static_cast<int>(total_ > 0 ? done * width / total_ : width);
    line += text("[", std::string(static_cast<size_t>(full), '#'), std::string(static_cast<size_t>(width - full), '.'),
                 "]  ");
  }
  line += numbers;
  std::cerr << '\r' << line.substr(0, static_cast<size_t>(columns - 1)) << "\033[K" << std::flush;
  drawn_ = true;
}

std::string format_duration(double seconds) {
  const auto total = static_cast<long long>(std::llround(std::max(0.0, seconds)));
  char out[48];
  if (total >= 3600)
    std::snprintf(out, sizeof out, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60);
  else
    std::snprintf(out, sizeof out, "%lld:%02lld", total / 60, total % 60);
  return out;
}

}  // namespace duet::train
