#include "duet/train/idx.h"

#include <sys/stat.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <string_view>

#include "duet/core/error.h"

namespace duet::train {
namespace {

// Magic numbers: two zero bytes, the element type (8 = u8), the number of dimensions.
constexpr uint32_t images_magic = 0x00000803, labels_magic = 0x00000801;
constexpr size_t header_bytes = 16;

struct IdxFile {
  int64_t count = 0;
  int width = 0, height = 0;
  std::vector<uint8_t> pixels;
};

struct GzCloser {
  void operator()(gzFile_s* file) const { gzclose(file); }
};

// Reads through zlib, which passes files that are not gzip through as they are.
class GzReader {
 public:
  explicit GzReader(const std::string& path) : path_(path), file_(gzopen(path.c_str(), "rbe")) {
    check(file_ != nullptr, "idx", path, ": cannot open: ", std::strerror(errno));
    gzbuffer(file_.get(), 1 << 17);
  }
  bool compressed() { return gzdirect(file_.get()) == 0; }

  // Fewer bytes than asked for only at the end of the file.
  size_t read(uint8_t* out, size_t size) {
    const int n = gzread(file_.get(), out, static_cast<unsigned>(size));
    int code = Z_OK;
    const char* message = gzerror(file_.get(), &code);
    check(n >= 0 && code != Z_BUF_ERROR, "idx", path_, ": ",
          code == Z_BUF_ERROR ? "the gzip data is truncated"
          : code == Z_ERRNO   ? std::strerror(errno)
                              : text("the gzip data is damaged: ", message));
    return static_cast<size_t>(n);
  }

 private:
  std::string path_;
  std::unique_ptr<gzFile_s, GzCloser> file_;
};

uint32_t big_endian(const uint8_t* bytes) {
  return uint32_t{bytes[0]} << 24 | uint32_t{bytes[1]} << 16 | uint32_t{bytes[2]} << 8 | bytes[3];
}

IdxFile read_idx(const std::string& path) {
  GzReader reader(path);
  uint8_t header[header_bytes];
  const size_t got = reader.read(header, sizeof header);
  check(got > 0, "idx", path, ": the file is empty");
  const uint32_t magic = got >= 4 ? big_endian(header) : 0;
  check(got < 4 || magic != labels_magic, "idx", path, ": holds labels, not images (IDX with one dimension)");
  check(got >= 4 && magic == images_magic, "idx", path, ": is not an IDX file of 8-bit images (starts 0x", std::hex,
        magic, ", expected 0x00000803)", reader.compressed() ? "" : "; it is not gzip-compressed either");
  check(got == sizeof header, "idx", path, ": truncated in the header");
  const uint64_t count = big_endian(header + 4), height = big_endian(header + 8), width = big_endian(header + 12);
  check(height > 0 && width > 0 && height < 65536 && width < 65536 &&
            count * (height * width) <= uint64_t{idx_largest_file_bytes} && count < uint64_t{1} << 30,
        "idx", path, ": ", count, " images of ", width, " x ", height, " are empty or exceed the limit of ",
        idx_largest_file_bytes >> 20, " MiB");
  IdxFile file{static_cast<int64_t>(count), static_cast<int>(width), static_cast<int>(height), {}};
  // Reserved memory costs nothing until it is filled, so what counts is the data found, not the header's promise.
  const size_t total = count * height * width;
  constexpr size_t step = size_t{1} << 22;
  file.pixels.reserve(total);
  while (file.pixels.size() < total) {
    const size_t at = file.pixels.size(), wanted = std::min(step, total - at);
    file.pixels.resize(at + wanted);
    const size_t n = reader.read(file.pixels.data() + at, wanted);
    check(n == wanted, "idx", path, ": truncated: the header promises ", count, " images of ", width, " x ", height,
          ", the data ends in image ", (at + n) / (height * width));
  }
  // Reading on also lets zlib check the gzip checksum.
  uint8_t extra;
  check(reader.read(&extra, 1) == 0, "idx", path, ": has more data than its header promises, ", count, " images of ",
        width, " x ", height);
  return file;
}

class IdxCache {
 public:
  // Loads under the lock: threads that come for the same file then wait for one decompression instead of repeating it.
  std::shared_ptr<const IdxFile> get(const std::string& path) {
    struct stat status {};
    check(::stat(path.c_str(), &status) == 0, "idx", path, ": cannot open: ", std::strerror(errno));
    check(!S_ISDIR(status.st_mode), "idx", path, ": is a directory, an IDX file was expected");
    const std::lock_guard lock(mutex_);
    const auto known = std::find_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.path == path; });
    if (known != entries_.end() && known->same_file(status)) {
      entries_.splice(entries_.begin(), entries_, known);
      return known->file;
    }
    if (known != entries_.end()) entries_.erase(known);
    entries_.push_front({path, status, std::make_shared<const IdxFile>(read_idx(path))});
    // The newest stays, however large, so that a single big file works too.
    while (entries_.size() > 1 && bytes() > idx_cache_bytes) entries_.pop_back();
    return entries_.front().file;
  }

  int64_t cached_bytes() {
    const std::lock_guard lock(mutex_);
    return bytes();
  }

 private:
  struct Entry {
    std::string path;
    struct stat status;
    std::shared_ptr<const IdxFile> file;

    bool same_file(const struct stat& other) const {
      return status.st_dev == other.st_dev && status.st_ino == other.st_ino && status.st_size == other.st_size &&
             status.st_mtim.tv_sec == other.st_mtim.tv_sec && status.st_mtim.tv_nsec == other.st_mtim.tv_nsec;
    }
  };

  int64_t bytes() const {
    int64_t sum = 0;
    for (const Entry& entry : entries_) sum += static_cast<int64_t>(entry.file->pixels.size());
    return sum;
  }

  std::mutex mutex_;
  std::list<Entry> entries_;  // most recently used first
};

IdxCache& cache() {
  static IdxCache instance;
  return instance;
}

struct Reference {
  std::string file;
  int64_t index;
};

std::optional<Reference> parse_reference(const std::string& path) {
  const size_t hash = path.rfind('#');
  if (hash == path.npos) return std::nullopt;
  const std::string_view digits = std::string_view(path).substr(hash + 1);
  const bool number = !digits.empty() && digits.size() <= 9 &&
                      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  std::error_code ignored;
  if (!number || std::filesystem::exists(path, ignored)) return std::nullopt;
  return Reference{path.substr(0, hash), std::stoll(std::string(digits))};
}

Image load_idx_image(const Reference& reference, const DecodeOptions& options) {
  const auto file = cache().get(reference.file);
  check(reference.index < file->count, "idx", reference.file, ": has no image ", reference.index, ", only ",
        file->count, " (0 to ", file->count - 1, ")");
  const int64_t pixels = int64_t{file->width} * file->height;
  check(pixels <= options.max_pixels, "idx", reference.file, ": ", file->width, " x ", file->height,
        " pixels are more than the limit of ", options.max_pixels, "; raise --max-pixels");
  Image image{file->width, file->height, {}};
  image.rgb.reserve(static_cast<size_t>(pixels) * 3);
  const uint8_t* grey = file->pixels.data() + reference.index * pixels;
  for (int64_t i = 0; i < pixels; ++i) image.rgb.insert(image.rgb.end(), 3, grey[i]);
  return image;
}

}  // namespace

Image load_image_reference(const std::string& path, const DecodeOptions& options) {
  if (const auto reference = parse_reference(path)) return load_idx_image(*reference, options);
  return load_image(path, options);
}

Image load_fitted_reference(const std::string& path, const ImageSteps& steps, int side, const DecodeOptions& options) {
  if (const auto reference = parse_reference(path)) return fit_image(load_idx_image(*reference, options), steps, side);
  return load_fitted(path, steps, side, options);
}

int64_t idx_cached_bytes() {
  return cache().cached_bytes();
}

}  // namespace duet::train
