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

void write_image(const ImageTask& task, const ImageOptions& options) {
  std::string bytes;
  for (const std::string& target : task.targets) {
    if (is_current(target, task, options)) continue;
    if (bytes.empty()) {
      if (options.max_side > 0) {
        bytes = encode_png(load_image_at_most(task.source, options.max_side, Resample::bilinear));
      } else {
        load_image(task.source);
        bytes = read_file(task.source);
      }
    }
    write_file_atomically(target, bytes, false);
  }
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

std::vector<std::string> write_images(const std::vector<ImageTask>& tasks, const ImageOptions& options) {
  make_parents(tasks);
  std::vector<std::string> errors(tasks.size());
  std::atomic<size_t> next = 0;
  std::atomic<int64_t> done = 0;
  std::atomic<bool> stop = false;
  const auto work = [&] {
    // Tasks start in order and a started one is finished, so the first failure is the same for any worker count.
    for (size_t i; !stop && !interrupt_requested() && (i = next++) < tasks.size(); ++done) try {
        write_image(tasks[i], options);
      } catch (const std::exception& e) {
        errors[i] = text(tasks[i].source, ": ", e.what());
        if (options.on_bad_sample == BadSample::stop) stop = true;
      }
  };
  const auto total = static_cast<int64_t>(tasks.size());
  std::atomic<int> running = std::max(1, options.workers);
  std::mutex mutex;
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
    Progress progress(options.label, 0, total);
    std::unique_lock lock(mutex);
    while (!finished.wait_for(lock, std::chrono::milliseconds(200), [&] { return running == 0; }))
      progress.update(done);
  }
  for (std::thread& thread : threads) thread.join();
  if (options.on_bad_sample == BadSample::stop)
    for (const std::string& error : errors)
      if (!error.empty()) throw Error(error);
  throw_if_interrupted(
      text("writing images: ", done.load(), " of ", total, " are done and kept; repeat the command to write the rest"));
  return errors;
}

DatasetWriter::DatasetWriter(std::string directory, std::string name, std::vector<std::string> labels,
                             std::string made_by, Json settings, bool fresh)
    : directory_(std::move(directory)),
      description_{{"name", std::move(name)},
                   {"labels", std::move(labels)},
                   {"made_by", std::move(made_by)},
                   {"settings", std::move(settings)}} {
  make_directories(directory_);
  lock_ = ::open(directory_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  check(lock_ >= 0, "data", "cannot open ", directory_, ": ", std::strerror(errno));
  try {
    check(::flock(lock_, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK, "data", directory_,
          ": another process is writing there now; wait for it or choose another directory");
    claim(description_["settings"], fresh);
  } catch (...) {
    ::close(lock_);
    throw;
  }
}

DatasetWriter::~DatasetWriter() {
  ::close(lock_);
}

void DatasetWriter::claim(const Json& settings, bool fresh) {
  const std::string known = path("dataset.json"), made_by = description_["made_by"];
  Json earlier;
  if (fs::exists(known)) {
    earlier = read_json(known);
  } else {
    for (const auto& entry : fs::directory_iterator(directory_))
      check(is_leftover(entry.path()), "data", directory_, " is not empty and no earlier output of `", made_by,
            "` (it holds ", entry.path().filename().string(), "); choose another directory, or empty this one");
  }
  const bool ours = earlier.is_object() && json_get<std::string>(earlier, "made_by", "") == made_by;
  check(earlier.is_null() || ours, "data", directory_, " holds another dataset (dataset.json is no output of `",
        made_by, "`); choose another directory, or empty this one");
  remove_leftovers(directory_);
  const bool complete = fs::exists(path("manifest.jsonl"));
  if (ours && earlier["settings"] == settings && !(fresh && complete)) return;
  fs::remove(path("manifest.jsonl"));
  fs::remove_all(path("images"));
  write_file_atomically(known, description_.dump(1) + "\n");
}

void DatasetWriter::finish(const std::vector<SourceRow>& rows) {
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
  description_["rows"] = rows.size();
  for (const char* split : {"train", "val", "test"}) description_["splits"][split] = splits[split];
  description_["sha256"] = rows_checksum(rows);
  check(::syncfs(lock_) == 0, "data", "cannot flush ", directory_, ": ", std::strerror(errno));
  write_file_atomically(path("dataset.json"), description_.dump(1) + "\n");
  write_file_atomically(path("manifest.jsonl"), manifest);
}

}  // namespace duet::train
