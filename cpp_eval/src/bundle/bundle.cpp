#include "bundle/bundle.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <string_view>
#include <utility>

#include "error.hpp"

namespace harness {

namespace {

constexpr std::int64_t kSchemaVersion = 1;
constexpr std::size_t kMostClasses = 10'000;  // the confusion matrix has their square
constexpr std::size_t kMostConditions = 1'000;
constexpr std::size_t kLargestImage = std::size_t{1} << 26;  // values of one example
constexpr std::size_t kLargestRatio = 1032;                  // what deflate reaches at best

constexpr std::array kKinds = {std::pair{Kind::clean, "clean"},
                               std::pair{Kind::attack, "attack"},
                               std::pair{Kind::corruption, "corruption"},
                               std::pair{Kind::trigger, "trigger"},
                               std::pair{Kind::rounded8bit, "rounded8bit"},
                               std::pair{Kind::jpeg, "jpeg"},
                               std::pair{Kind::folder, "folder"}};

constexpr double kEpsTolerance = 1e-9;
constexpr std::size_t kShownText = 60;

template <typename Value>
Value required(std::optional<Value> value, const hdf5::Object& object, const char* name) {
    if (!value) throw BadInput(object.place + ": expected an attribute " + name + ", found none");
    return *std::move(value);
}

Kind read_kind(const hdf5::Object& group) {
    const std::string text = required(hdf5::text_attribute(group, "kind"), group, "kind");
    for (const auto& [kind, name] : kKinds) {
        if (text == name) return kind;
    }
    throw BadInput(
        group.place +
        ": attribute kind: expected clean, attack, corruption, trigger, rounded8bit, jpeg or folder, got " +
        text);
}

// "8/255" or "0.03" as a number; none where it is neither.
std::optional<double> quotient(std::string_view text) {
    const auto slash = text.find('/');
    const auto number = [](std::string_view digits) -> std::optional<double> {
        double value{};
        const char* end = digits.data() + digits.size();
        const auto [rest, error] = std::from_chars(digits.data(), end, value);
        return error == std::errc{} && rest == end ? std::optional{value} : std::nullopt;
    };
    const auto above = number(text.substr(0, slash));
    const auto below = slash == std::string_view::npos ? std::optional{1.0} : number(text.substr(slash + 1));
    if (!above || !below || !std::isfinite(*above / *below)) return std::nullopt;
    return *above / *below;
}

std::string read_budget_text(const hdf5::Object& group, double eps) {
    const auto text = hdf5::text_attribute(group, "eps_text");
    if (!text) return std::to_string(eps);
    const auto value = quotient(*text);
    if (!value || std::abs(*value - eps) > kEpsTolerance * std::max(std::abs(*value), std::abs(eps))) {
        throw BadInput(group.place + ": attribute eps_text: expected the number in eps, " +
                       std::to_string(eps) + ", got " + text->substr(0, kShownText));
    }
    return *text;
}

std::optional<Budget> read_budget(const hdf5::Object& group) {
    const auto norm_text = hdf5::text_attribute(group, "norm");
    const auto eps = hdf5::float_attribute(group, "eps");
    if (!norm_text || !eps) return std::nullopt;
    const auto norm = parse_norm(*norm_text);
    if (!norm) throw BadInput(group.place + ": attribute norm: expected Linf, L2 or L1, got " + *norm_text);
    if (!std::isfinite(*eps) || *eps < 0) {
        throw BadInput(group.place + ": attribute eps: expected a number >= 0, got " + std::to_string(*eps));
    }
    return Budget{*norm, *eps, read_budget_text(group, *eps)};
}

// Checks type and extent of a data set; 0 in `expected` stands for any extent.
std::vector<std::uint64_t> checked_shape(const hdf5::Object& dataset, const std::string& type,
                                         const std::vector<std::uint64_t>& expected) {
    const auto found = hdf5::shape(dataset);
    const auto fits = [](std::uint64_t wanted, std::uint64_t size) {
        return wanted == 0 ? size > 0 : size == wanted;
    };
    const bool ok = hdf5::type_name(dataset) == type && found.size() == expected.size() &&
                    std::equal(expected.begin(), expected.end(), found.begin(), fits);
    if (ok) return found;
    const auto list = [](const std::vector<std::uint64_t>& sizes) {
        std::string text;
        for (const std::uint64_t size : sizes)
            text += (text.empty() ? "" : ", ") + (size == 0 ? "*" : std::to_string(size));
        return "(" + text + ")";
    };
    std::string got = list(found);
    std::ranges::replace(got, '*', '0');
    throw BadInput(dataset.place + ": expected " + type + " of shape " + list(expected) + ", got " +
                   hdf5::type_name(dataset) + " " + got);
}

// No more values can be there than the file has room for.
ImageShape read_shape(const hdf5::Object& x, std::uint64_t n, std::uint64_t room) {
    const auto extent = checked_shape(x, "float32", {n, 0, 0, 0});
    const bool small = extent[1] <= kLargestImage && extent[2] <= kLargestImage / extent[1] &&
                       extent[3] <= kLargestImage / extent[1] / extent[2];
    if (!small)
        throw BadInput(x.place + ": expected images of at most " + std::to_string(kLargestImage) + " values");
    const ImageShape shape{extent[1], extent[2], extent[3]};
    if (shape.size() * sizeof(float) / kLargestRatio > room / n) {
        throw BadInput(x.place + ": expected at most as many images as the file has room for, got " +
                       std::to_string(n));
    }
    return shape;
}

// Whole numbers are stored uncompressed: no more can be there than the file has room for. `room` is what is
// left of it: many links may lead to one data set.
std::vector<std::int64_t> read_numbers(const hdf5::Object& dataset, std::uint64_t n, std::uint64_t& room) {
    const auto extent = checked_shape(dataset, "int64", {n});
    if (extent[0] > room / sizeof(std::int64_t)) {
        throw BadInput(dataset.place + ": expected at most as many values as the file has room for, got " +
                       std::to_string(extent[0]));
    }
    room -= extent[0] * sizeof(std::int64_t);
    return hdf5::read_integers(dataset, extent[0]);
}

// Checks that every number lies in [0, end).
void check_range(const std::vector<std::int64_t>& numbers, std::size_t end, const std::string& place) {
    const auto outside = std::ranges::find_if(
        numbers, [end](std::int64_t number) { return number < 0 || std::cmp_greater_equal(number, end); });
    if (outside == numbers.end()) return;
    throw BadInput(place + ": example " + std::to_string(outside - numbers.begin()) +
                   ": expected a number from 0 to " + std::to_string(end - 1) + ", got " +
                   std::to_string(*outside));
}

}  // namespace

std::string to_string(const ImageShape& shape) {
    return std::to_string(shape.channels) + " x " + std::to_string(shape.height) + " x " +
           std::to_string(shape.width);
}

std::string_view to_string(Kind kind) {
    return std::ranges::find(kKinds, kind, [](const auto& entry) { return entry.first; })->second;
}

Bundle Bundle::open(const std::filesystem::path& path) {
    return Bundle(hdf5::open_file(path));
}

Bundle Bundle::open_image(std::span<const std::byte> bytes) {
    return Bundle(hdf5::open_image(bytes));
}

hdf5::Object Bundle::group(const Condition& condition) const {
    return hdf5::open_group(hdf5::open_group(file_, "conditions"), condition.name);
}

Bundle::Bundle(hdf5::Object file) : file_(std::move(file)) {
    const auto version = hdf5::int_attribute(file_, "schema_version");
    if (version != kSchemaVersion) {
        throw BadInput(file_.place + ": attribute schema_version: expected " +
                       std::to_string(kSchemaVersion) + ", got " +
                       (version ? std::to_string(*version) : "none"));
    }
    model_ = required(hdf5::text_attribute(file_, "model"), file_, "model");
    model_sha256_ = required(hdf5::text_attribute(file_, "model_sha256"), file_, "model_sha256");
    dataset_ = required(hdf5::text_attribute(file_, "dataset"), file_, "dataset");

    const auto names = hdf5::open_dataset(file_, "class_names");
    const auto classes = checked_shape(names, "text", {0})[0];
    if (classes > kMostClasses) {
        throw BadInput(names.place + ": expected at most " + std::to_string(kMostClasses) + " names, got " +
                       std::to_string(classes));
    }
    class_names_ = hdf5::read_texts(names, classes);

    const auto groups = hdf5::open_group(file_, "conditions");
    const auto names_of_conditions = hdf5::children(groups);
    if (names_of_conditions.size() > kMostConditions) {
        throw BadInput(groups.place + ": expected at most " + std::to_string(kMostConditions) +
                       " conditions, got " + std::to_string(names_of_conditions.size()));
    }
    std::uint64_t room = hdf5::file_size(file_);
    for (const std::string& name : names_of_conditions) {
        conditions_.push_back(read_condition(hdf5::open_group(groups, name), name, room));
    }
    if (conditions_.empty()) throw BadInput(groups.place + ": expected at least one condition, found none");
    std::ranges::stable_sort(conditions_, {}, &Condition::position);
    for (Condition& condition : conditions_) pair_with_clean(condition);
}

Condition Bundle::read_condition(const hdf5::Object& group, const std::string& name,
                                 std::uint64_t& room) const {
    const std::size_t classes = class_names_.size();
    const auto y = hdf5::open_dataset(group, "y");
    auto labels = read_numbers(y, 0, room);
    check_range(labels, classes, y.place);

    std::vector<std::int64_t> rows;
    if (hdf5::has_link(group, "rows"))
        rows = read_numbers(hdf5::open_dataset(group, "rows"), labels.size(), room);
    const bool has_logits = hdf5::has_link(group, "logits");
    if (has_logits) checked_shape(hdf5::open_dataset(group, "logits"), "float32", {labels.size(), classes});

    const auto target = hdf5::int_attribute(group, "target_class");
    if (target) check_range({*target}, classes, group.place + ": attribute target_class");
    return {.name = name,
            .position = required(hdf5::int_attribute(group, "position"), group, "position"),
            .kind = read_kind(group),
            .digest = hdf5::text_attribute(group, "digest").value_or(""),
            .attack = hdf5::text_attribute(group, "attack"),
            .budget = read_budget(group),
            .target_class = target ? std::optional(static_cast<std::size_t>(*target)) : std::nullopt,
            .clean_name = hdf5::text_attribute(group, "clean"),
            .clean = std::nullopt,
            .shape = read_shape(hdf5::open_dataset(group, "x"), labels.size(), hdf5::file_size(file_)),
            .labels = std::move(labels),
            .rows = std::move(rows),
            .has_logits = has_logits};
}

void Bundle::pair_with_clean(Condition& condition) const {
    const std::string place = file_.place + ": /conditions/" + condition.name;
    if (condition.shape != shape()) {
        throw BadInput(place + "/x: expected images of one shape in a bundle, " + to_string(shape()) +
                       ", got " + to_string(condition.shape));
    }
    if (!condition.clean_name) return;
    const auto found = std::ranges::find(conditions_, *condition.clean_name, &Condition::name);
    if (found == conditions_.end() || found->kind != Kind::clean) {
        throw BadInput(place + ": attribute clean: expected the name of a condition of kind clean, got " +
                       *condition.clean_name);
    }
    if (condition.rows.empty() && condition.size() > found->size()) {
        throw BadInput(place + ": expected at most the " + std::to_string(found->size()) + " examples of " +
                       *condition.clean_name + ", got " + std::to_string(condition.size()));
    }
    check_range(condition.rows, found->size(), place + "/rows");
    for (std::size_t i = 0; i < condition.size(); ++i) {
        if (condition.labels[i] != found->labels[condition.clean_row(i)]) {
            throw BadInput(place + "/y: example " + std::to_string(i) + ": expected the label of " +
                           *condition.clean_name + ", got another");
        }
    }
    condition.clean = static_cast<std::size_t>(found - conditions_.begin());
}

}  // namespace harness
