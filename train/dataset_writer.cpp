#include "duet/train/dataset_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

#include "duet/core/file.h"
#include "duet/core/sha256.h"
#include "duet/train/image.h"
#include "duet/train/interrupt.h"
#include "duet/train/progress.h"
#include "duet/train/unicode.h"

namespace duet::train {
namespace {

namespace fs = std::filesystem;

bool is_leftover(const fs::path& path) {
  return path.filename().string().find(".tmp-") != std::string::npos;
}

// What a killed run left half written.
void remove_leftovers(const std::string& directory) {
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file() && is_leftover(entry.path())) leftovers.push_back(entry.path());
  for (const fs::path& path : leftovers) fs::remove(path);
}

// Images are not flushed one by one, so after a crash of the machine a file may be there without all of its content.
bool is_whole(const std::string& target, const ImageTask& task, const ImageOptions& options) {
  if (options.max_side == 0) return fs::file_size(target) == fs::file_size(task.source);
  constexpr std::string_view last_chunk("\0\0\0\0IEND\xAE\x42\x60\x82", 12);
  return read_file(target).ends_with(last_chunk);
}

bool is_current(const std::string& target, const ImageTask& task, const ImageOptions& options) {
  std::error_code error;
  const auto written = fs::last_write_time(target, error);
  return !error && written >= fs::last_write_time(task.source) && is_whole(target, task, options);
}

std::string convert(const std::string& source, const ImageOptions& options) {
  if (options.max_side > 0) return encode_png(load_image_at_most(source, options.max_side, Resample::bilinear));
  load_image_at_most(source, 1, Resample::bilinear);  // decodes everything, in little memory
  return read_file(source);
}

void make_parents(const std::vector<ImageTask>& tasks) {
  std::map<std::string, bool> made;
  for (const ImageTask& task : tasks)
    for (const std::string& target : task.targets)
      if (const std::string parent = fs::path(target).parent_path().string(); !made[parent]) {
        make_directories(parent);
        made[parent] = true;
      }
}

}  // namespace

std::string rows_checksum(const std::vector<SourceRow>& rows) {
  Sha256 hash;
  for (const SourceRow& r : rows) hash.update(r.id + '\t' + r.text + '\t' + r.label + '\t' + r.split + '\n');
  return hash.hex();
}

std::vector<SourceRow> limit_rows(std::vector<SourceRow> rows, size_t limit) {
  if (limit == 0 || limit >= rows.size()) return rows;
  std::map<std::pair<std::string, std::string>, int> numbers;
  std::vector<int> classes;
  for (const SourceRow& r : rows)
    classes.push_back(numbers.emplace(std::pair(r.label, r.split), static_cast<int>(numbers.size())).first->second);
  std::vector<SourceRow> kept;
  for (const size_t i : stratified_limit(classes, limit)) kept.push_back(std::move(rows[i]));
  return kept;
}

std::map<std::string, std::string> write_images(const std::vector<ImageTask>& tasks, const ImageOptions& options) {
  make_parents(tasks);
  std::atomic<size_t> next = 0, done = 0;
  std::atomic<bool> stop = false;
  std::mutex mutex;
  std::map<size_t, std::string> bad, fatal;  // by position
  const auto note = [&](std::map<size_t, std::string>& errors, size_t i, const std::string& reason, bool stops) {
    const std::lock_guard lock(mutex);
    errors.emplace(i, reason);
    if (stops) stop = true;
  };
  const auto write = [&](size_t i) {
    const ImageTask& task = tasks[i];
    std::vector<std::string> targets;
    for (const std::string& target : task.targets)
      if (!is_current(target, task, options)) targets.push_back(target);
    if (targets.empty()) return;
    std::string bytes;
    try {
      bytes = convert(task.source, options);
    } catch (const std::exception& e) {
      return note(bad, i, (task.origin.empty() ? "" : task.origin + ": ") + e.what(),
                  options.on_bad_sample == BadSample::stop);
    }
    for (const std::string& target : targets) write_file_atomically(target, bytes, false);
  };
  // Tasks start in order and a started one is finished, so the first failure is the same for any number of workers.
  const auto work = [&] {
    for (size_t i; !stop && !interrupt_requested() && (i = next++) < tasks.size(); ++done) try {
        write(i);
      } catch (const std::exception& e) {
        note(fatal, i, e.what(), true);
      }
  };
  int running = std::max(1, options.workers);
  std::condition_variable finished;
  std::vector<std::thread> threads;
  for (int i = running; i > 0; --i)
    threads.emplace_back([&] {
      work();
      const std::lock_guard lock(mutex);
      --running;
      finished.notify_one();
    });
  {
    Progress progress(options.label, 0, static_cast<int64_t>(tasks.size()));
    std::unique_lock lock(mutex);
    while (!finished.wait_for(lock, std::chrono::milliseconds(200), [&] { return running == 0; }))
      progress.update(static_cast<int64_t>(done));
  }
  for (std::thread& thread : threads) thread.join();
  if (!fatal.empty()) throw Error(fatal.begin()->second);
  if (!bad.empty() && options.on_bad_sample == BadSample::stop) throw Error(bad.begin()->second);
  throw_if_interrupted(text("writing images: ", done.load(), " of ", tasks.size(),
                            " are done and kept; repeat the command to write the rest"));
  std::map<std::string, std::string> reasons;
  for (const auto& [i, reason] : bad) reasons.emplace(tasks[i].source, reason);
  return reasons;
}

DatasetWriter::DatasetWriter(std::string directory, Claim claim)
    : directory_(std::move(directory)), claim_(std::move(claim)) {
  make_directories(directory_);
  lock_ = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  check(lock_ >= 0, "data", "cannot open ", directory_, ": ", std::strerror(errno));
  try {
    check(::flock(lock_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, "data", directory_,
          ": another process is writing there now; wait for it, or choose another directory");
    take_over();
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

DatasetWriter::~DatasetWriter() {
  ::close(lock_);
}

void DatasetWriter::take_over() {
  const std::string known = path("dataset.json");
  Json earlier;
  if (fs::exists(known)) {
    earlier = read_json(known);
    const bool ours = earlier.is_object() && json_get<std::string>(earlier, "made_by", "") == claim_.made_by;
    check(ours, "data", directory_, " holds another dataset: its dataset.json is not from `", claim_.made_by,
          "`; choose another directory, or empty this one");
  } else {
    for (const auto& entry : fs::directory_iterator(directory_))
      check(is_leftover(entry.path()), "data", directory_, " is not empty and no earlier output of `", claim_.made_by,
            "` (it holds ", entry.path().filename().string(), "); choose another directory, or empty this one");
  }
  remove_leftovers(directory_);
  const bool same = earlier.is_object() && earlier.contains("images") && earlier["images"] == claim_.images;
  if (same && !(claim_.fresh && fs::exists(path("manifest.jsonl")))) return;
  fs::remove(path("manifest.jsonl"));
  fs::remove_all(path("images"));
  write_file_atomically(known, Json{{"made_by", claim_.made_by}, {"images", claim_.images}}.dump(1) + "\n");
}

void DatasetWriter::finish(const std::string& name, const std::vector<std::string>& labels, const Json& settings,
                           const std::vector<SourceRow>& rows) {
  std::map<std::string, size_t> splits;
  std::string manifest;
  for (const SourceRow& r : rows) {
    ++splits[r.split];
    Json line{{"id", r.id}};
    if (!r.image.empty()) line["image"] = r.image;
    if (r.has_text) line["text"] = r.text;
    if (!r.label.empty()) line["label"] = r.label;
    line["split"] = r.split;
    manifest += line.dump() + "\n";
  }
  const Json description{{"name", name},
                         {"labels", labels},
                         {"made_by", claim_.made_by},
                         {"images", claim_.images},
                         {"settings", settings},
                         {"rows", rows.size()},
                         {"splits", {{"train", splits["train"]}, {"val", splits["val"]}, {"test", splits["test"]}}},
                         {"sha256", rows_checksum(rows)}};
  check(::syncfs(lock_) == 0, "data", "cannot flush ", directory_, ": ", std::strerror(errno));
  write_file_atomically(path("dataset.json"), description.dump(1) + "\n");
  write_file_atomically(path("manifest.jsonl"), manifest);
}

}  // namespace duet::train
