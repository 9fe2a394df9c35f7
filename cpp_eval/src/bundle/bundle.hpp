// A bundle: one model's stored inputs, labels and reference logits, validated when opened. See
// harness/bundle/schema.py.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "bundle/ball.hpp"
#include "bundle/hdf5.hpp"

namespace harness {

struct ImageShape {
    std::size_t channels;
    std::size_t height;
    std::size_t width;

    [[nodiscard]] std::size_t size() const { return channels * height * width; }
    [[nodiscard]] bool operator==(const ImageShape&) const = default;
};

/// "3 x 224 x 224".
[[nodiscard]] std::string to_string(const ImageShape& shape);

enum class Kind { clean, attack, corruption, trigger, rounded8bit, jpeg, folder };

[[nodiscard]] std::string_view to_string(Kind kind);

/// The images that one cell of the grid was scored on, without the images.
struct Condition {
    std::string name;
    std::int64_t position;
    Kind kind;
    std::string digest;
    std::optional<std::string> attack;
    std::optional<Budget> budget;
    std::optional<std::size_t> target_class;
    /// Name of the condition that holds the same examples unperturbed, and its index in Bundle::conditions.
    std::optional<std::string> clean_name;
    std::optional<std::size_t> clean;
    ImageShape shape;
    std::vector<std::int64_t> labels;
    /// The row of each example in the clean condition; empty: the same row.
    std::vector<std::int64_t> rows;
    bool has_logits;

    [[nodiscard]] std::size_t size() const { return labels.size(); }
    [[nodiscard]] std::size_t clean_row(std::size_t example) const {
        return rows.empty() ? example : static_cast<std::size_t>(rows[example]);
    }
    /// Whether success of an attack can be counted: someone wants the examples misclassified, and the
    /// unperturbed ones are known. What was rounded or re-encoded has a budget or a target class where it was
    /// attacked before.
    [[nodiscard]] bool attacked() const {
        const bool encoded = kind == Kind::rounded8bit || kind == Kind::jpeg;
        const bool wanted = encoded ? budget || target_class : kind == Kind::attack || kind == Kind::trigger;
        return clean && wanted;
    }
};

class Bundle {
  public:
    /// Opens and validates everything but the values of images and logits. Throws BadInput.
    [[nodiscard]] static Bundle open(const std::filesystem::path& path);
    /// The same for a file that lies in memory.
    [[nodiscard]] static Bundle open_image(std::span<const std::byte> bytes);

    [[nodiscard]] const std::string& model() const { return model_; }
    [[nodiscard]] const std::string& model_sha256() const { return model_sha256_; }
    [[nodiscard]] const std::string& dataset() const { return dataset_; }
    [[nodiscard]] const std::vector<std::string>& class_names() const { return class_names_; }
    /// In the order they were written; all have images of one shape.
    [[nodiscard]] const std::vector<Condition>& conditions() const { return conditions_; }
    [[nodiscard]] const ImageShape& shape() const { return conditions_.front().shape; }
    /// Opens the group of a condition.
    [[nodiscard]] hdf5::Object group(const Condition& condition) const;
    /// The bundle's readable place, for messages.
    [[nodiscard]] const std::string& place() const { return file_.place; }

  private:
    explicit Bundle(hdf5::Object file);
    /// `room`: bytes of the file that no label or row was found in yet.
    [[nodiscard]] Condition read_condition(const hdf5::Object& group, const std::string& name,
                                           std::uint64_t& room) const;
    void pair_with_clean(Condition& condition) const;

    hdf5::Object file_;
    std::string model_;
    std::string model_sha256_;
    std::string dataset_;
    std::vector<std::string> class_names_;
    std::vector<Condition> conditions_;
};

}  // namespace harness
