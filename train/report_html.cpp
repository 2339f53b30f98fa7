#include "duet/core/file.h"
#include "duet/train/report.h"
#include "duet/train/report_text.h"

namespace duet::train {

std::string report_html(const Json& report) {
  return "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>duet "
         "compare</title></head><body><pre>" +
         escape_html(comparison_table(report)) + "</pre></body></html>\n";
}

void write_report_html(const Json& report, const std::string& path) {
  write_file_atomically(path, report_html(report));
}

}  // namespace duet::train
