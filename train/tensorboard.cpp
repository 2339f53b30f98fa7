#include "duet/train/tensorboard.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "duet/core/file.h"
#include "duet/core/hash.h"

namespace duet::train {
namespace {

static_assert(std::endian::native == std::endian::little, "event files are written in the machine's byte order");

template <class T>
std::string raw_bytes(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

// The part of the protocol buffer encoding that event files need. A message is a string of fields, each a varint
// (number << 3 | wire type) and its value.
class Message {
 public:
  Message& integer(uint32_t number, int64_t value) {
    key(number, 0);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& float64(uint32_t number, double value) {
    key(number, 1);
    bytes_ += raw_bytes(value);
    return *this;
  }
  Message& float32(uint32_t number, float value) {
    key(number, 5);
    bytes_ += raw_bytes(value);
    return *this;
  }
  Message& text(uint32_t number, std::string_view value) {
    key(number, 2);
    varint(value.size());
    bytes_ += value;
    return *this;
  }
  Message& message(uint32_t number, const Message& value) { return text(number, value.bytes_); }

  const std::string& bytes() const { return bytes_; }

 private:
  void key(uint32_t number, uint32_t wire_type) { varint(number << 3 | wire_type); }
  void varint(uint64_t value) {
    for (; value >= 128; value >>= 7) bytes_ += static_cast<char>(value | 128);
    bytes_ += static_cast<char>(value);
  }

  std::string bytes_;
};

// Field numbers, from the .proto files.
namespace event_field {
constexpr uint32_t wall_time = 1, step = 2, file_version = 3, summary = 5, session_log = 7;
}
namespace value_field {
constexpr uint32_t tag = 1, simple_value = 2, image = 4, tensor = 8, metadata = 9;
}
namespace hparams_field {
constexpr uint32_t experiment = 2, session_start_info = 3, session_end_info = 4;
}

Message event(double wall_time, int64_t step = 0) {
  Message e;
  e.float64(event_field::wall_time, wall_time);
  if (step != 0) e.integer(event_field::step, step);
  return e;
}

std::string summary_event(double wall_time, int64_t step, const Message& value) {
  return event(wall_time, step).message(event_field::summary, Message().message(1, value)).bytes();
}

Message plugin_metadata(const std::string& plugin, const Message& content = {}) {
  Message data;
  data.text(1, plugin);
  if (!content.bytes().empty()) data.text(2, content.bytes());
  return Message().message(1, data);
}

std::string hparams_event(double wall_time, const char* what, uint32_t field, const Message& content) {
  Message value;
  value.text(value_field::tag, std::string("_hparams_/") + what);
  value.message(value_field::metadata, plugin_metadata("hparams", Message().message(field, content)));
  return summary_event(wall_time, 0, value);
}

// google.protobuf.Value. Lists, which it could hold but the plugin does not show, become text.
Message hparam_value(const Json& value) {
  if (value.is_boolean()) return Message().integer(4, value.get<bool>());
  if (value.is_number()) return Message().float64(2, value.get<double>());
  return Message().text(3, value.is_string() ? value.get<std::string>() : value.dump());
}

int hparam_type(const Json& value) {
  constexpr int string_type = 1, bool_type = 2, float64_type = 3;
  return value.is_boolean() ? bool_type : value.is_number() ? float64_type : string_type;
}

struct PngHeader {
  uint32_t width, height, channels;
};

// A PNG begins with its signature and the IHDR chunk: length, "IHDR", width, height, bit depth, colour type.
PngHeader read_png_header(const std::string& tag, const std::string& png) {
  check(png.size() >= 33 && png.starts_with("\x89PNG\r\n\x1a\n") && png.compare(12, 4, "IHDR") == 0, "tensorboard",
        "image ", tag, " is no PNG (", png.size(), " bytes)");
  const auto big_endian = [&](size_t at) {
    uint32_t value = 0;
    for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(png[at + i]);
    return value;
  };
  constexpr uint32_t channels_of[] = {1, 0, 3, 3, 2, 0, 4};  // grey, -, RGB, palette, grey + alpha, -, RGBA
  const auto colour_type = static_cast<unsigned char>(png[25]);
  return {big_endian(16), big_endian(20), colour_type < std::size(channels_of) ? channels_of[colour_type] : 0};
}

uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c({reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size()});
  return std::rotr(crc, 15) + 0xA282EAD8;
}

double now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace

namespace tensorboard {

std::string record(std::string_view payload) {
  const std::string length = raw_bytes(uint64_t{payload.size()});
  return length + raw_bytes(masked_crc(length)) + std::string(payload) + raw_bytes(masked_crc(payload));
}

std::string version_event(double wall_time) {
  return event(wall_time).text(event_field::file_version, "brain.Event:2").bytes();
}

std::string session_start_event(double wall_time, int64_t step) {
  constexpr int start = 1;
  return event(wall_time, step).message(event_field::session_log, Message().integer(1, start)).bytes();
}

std::string scalar_event(double wall_time, int64_t step, const std::string& tag, double value) {
  Message v;
  v.text(value_field::tag, tag).float32(value_field::simple_value, static_cast<float>(value));
  return summary_event(wall_time, step, v);
}

std::string text_event(double wall_time, int64_t step, const std::string& name, const std::string& markdown) {
  constexpr int dt_string = 7;
  const Message shape = Message().message(2, Message().integer(1, 1));  // one dimension of size 1
  Message v;
  v.text(value_field::tag, name + "/text_summary");
  v.message(value_field::tensor, Message().integer(1, dt_string).message(2, shape).text(8, markdown));
  v.message(value_field::metadata, plugin_metadata("text"));
  return summary_event(wall_time, step, v);
}

std::string image_event(double wall_time, int64_t step, const std::string& tag, const std::string& png) {
  const PngHeader header = read_png_header(tag, png);
  Message image;
  image.integer(1, header.height).integer(2, header.width).integer(3, header.channels).text(4, png);
  return summary_event(wall_time, step, Message().text(value_field::tag, tag).message(value_field::image, image));
}

std::string hparams_experiment_event(double wall_time, const Json& options,
                                     const std::vector<std::string>& metric_tags) {
  Message experiment;
  for (const auto& [name, value] : options.items())
    experiment.message(4, Message().text(1, name).integer(4, hparam_type(value)));
  for (const std::string& tag : metric_tags) experiment.message(5, Message().message(1, Message().text(2, tag)));
  return hparams_event(wall_time, "experiment", hparams_field::experiment, experiment);
}

std::string hparams_start_event(double wall_time, const Json& options) {
  Message info;
  for (const auto& [name, value] : options.items())
    info.message(1, Message().text(1, name).message(2, hparam_value(value)));
  return hparams_event(wall_time, "session_start_info", hparams_field::session_start_info, info);
}

std::string hparams_end_event(double wall_time, bool success) {
  constexpr int succeeded = 1, failed = 2;
  return hparams_event(wall_time, "session_end_info", hparams_field::session_end_info,
                       Message().integer(1, success ? succeeded : failed));
}

}  // namespace tensorboard

TensorBoardWriter::TensorBoardWriter(const std::string& directory) {
  make_directories(directory);
  static std::atomic<int> counter{0};
  char host[256] = "";
  if (::gethostname(host, sizeof host - 1) != 0 || host[0] == '\0') std::snprintf(host, sizeof host, "localhost");
  char name[400];
  std::snprintf(name, sizeof name, "events.out.tfevents.%010lld.%s.%d.%d", static_cast<long long>(now()), host,
                static_cast<int>(::getpid()), counter.fetch_add(1));
  path_ = directory + "/" + name;
  file_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  check(file_ >= 0, "tensorboard", "cannot create ", path_, ": ", std::strerror(errno));
  write(tensorboard::version_event(now()));
}

TensorBoardWriter::~TensorBoardWriter() {
  if (file_ >= 0) ::close(file_);
}

void TensorBoardWriter::write(const std::string& event) {
  const std::string bytes = tensorboard::record(event);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(file_, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    check(n >= 0, "tensorboard", "cannot write ", path_, ": ", std::strerror(errno));
    done += static_cast<size_t>(n);
  }
}

void TensorBoardWriter::session_start(int64_t first_step) {
  write(tensorboard::session_start_event(now(), first_step));
}

void TensorBoardWriter::scalar(const std::string& tag, int64_t step, double value) {
  write(tensorboard::scalar_event(now(), step, tag, value));
}

void TensorBoardWriter::text(const std::string& name, int64_t step, const std::string& markdown) {
  write(tensorboard::text_event(now(), step, name, markdown));
}

void TensorBoardWriter::image(const std::string& tag, int64_t step, const std::string& png) {
  write(tensorboard::image_event(now(), step, tag, png));
}

void TensorBoardWriter::hparams_start(const Json& options, const std::vector<std::string>& metric_tags) {
  write(tensorboard::hparams_experiment_event(now(), options, metric_tags));
  write(tensorboard::hparams_start_event(now(), options));
}

void TensorBoardWriter::hparams_end(bool success) {
  write(tensorboard::hparams_end_event(now(), success));
}

}  // namespace duet::train
