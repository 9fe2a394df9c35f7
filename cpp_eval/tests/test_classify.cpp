#include <sys/stat.h>
#include <unistd.h>

#include <sstream>

#include "images/classify.hpp"
#include "testing.hpp"

using namespace harness;

namespace {

const std::filesystem::path kFixtures = HARNESS_EVAL_FIXTURES;

struct Run {
    ClassifyCounts counts;
    std::vector<nlohmann::json> lines;
};

ClassifyConfig config_for(std::vector<std::filesystem::path> images) {
    ClassifyConfig config;
    config.model = kFixtures / "models" / "deploy.onnx";
    config.images = std::move(images);
    config.runtime.threads = 1;
    config.quiet = true;
    return config;
}

Run run(const ClassifyConfig& config) {
    std::stringstream out;
    Run made{classify(config, out), {}};
    for (std::string line; std::getline(out, line);) made.lines.push_back(nlohmann::json::parse(line));
    return made;
}

}  // namespace

TEST_CASE("a red image is called red, the names come from the model") {
    const auto made = run(config_for({kFixtures / "images" / "red.png"}));
    REQUIRE(made.lines.size() == 1);
    CHECK(made.lines[0]["class"] == "red");
    CHECK(made.lines[0]["index"] == 0);
    CHECK(made.lines[0]["probability"].get<double>() > 0.9);
    CHECK(made.lines[0]["probabilities"].size() == 3);
    CHECK(made.counts.classified == 1);
}

TEST_CASE("an unreadable image among good ones is reported, the rest goes on") {
    const auto images = kFixtures / "images";
    const auto made = run(config_for(
        {images / "red.png", images / "broken" / "text.jpg", images / "missing.png", images / "grey.jpg"}));
    REQUIRE(made.lines.size() == 4);
    CHECK(made.lines[0].contains("class"));
    CHECK(made.lines[1]["error"] == "expected a JPEG or PNG, got another format");
    CHECK(made.lines[2]["error"] == "expected a readable file");
    CHECK(made.lines[3].contains("class"));
    CHECK(made.counts.unreadable == 2);
}

TEST_CASE("only the likeliest classes are listed where that is asked for") {
    auto config = config_for({kFixtures / "images" / "red.png"});
    config.top = 1;
    CHECK(run(config).lines[0]["probabilities"].size() == 1);
}

TEST_CASE("folders are searched, sorted, for images only") {
    const auto found = find_images({kFixtures / "images"});
    CHECK(std::is_sorted(found.begin(), found.end()));
    CHECK(std::ranges::find(found, kFixtures / "images" / "red.png") != found.end());
    CHECK(std::ranges::find(found, kFixtures / "images" / "index.json") == found.end());
}

TEST_CASE("a link that leads nowhere, or to itself, is reported like any unreadable file") {
    const auto folder = std::filesystem::temp_directory_path() / "harness_eval_links";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    std::filesystem::create_symlink(kFixtures / "images" / "red.png", folder / "good.png");
    std::filesystem::create_symlink("nowhere", folder / "lost.png");
    std::filesystem::create_symlink("loop.png", folder / "loop.png");
    const auto searched = run(config_for({folder}));
    CHECK(searched.counts.classified == 1);
    CHECK(searched.counts.unreadable == 2);
    CHECK(run(config_for({folder / "loop.png"})).lines[0]["error"] == "expected a readable file");
    std::filesystem::remove_all(folder);
}

TEST_CASE("a FIFO, and a link to a device, are reported and never opened") {
    const auto folder = std::filesystem::temp_directory_path() / "harness_eval_fifo";
    std::filesystem::remove_all(folder);
    std::filesystem::create_directory(folder);
    std::filesystem::copy_file(kFixtures / "images" / "red.png", folder / "red.png");
    REQUIRE(mkfifo((folder / "pipe.jfif").c_str(), 0600) == 0);
    std::filesystem::create_symlink("/dev/zero", folder / "zero.png");
    const auto searched = run(config_for({folder}));
    CHECK(searched.counts.classified == 1);
    CHECK(searched.counts.unreadable == 2);
    CHECK(searched.lines[0]["error"] == "expected a regular file, got a FIFO");
    CHECK(searched.lines[2]["error"] == "expected a regular file, got a device");
    std::filesystem::remove_all(folder);
}

TEST_CASE("a folder that cannot be read is reported, those beside it are searched") {
    const auto root = std::filesystem::temp_directory_path() / "harness_eval_folders";
    std::filesystem::remove_all(root);
    for (const char* name : {"a", "b"}) {
        std::filesystem::create_directories(root / name);
        std::filesystem::copy_file(kFixtures / "images" / "red.png", root / name / "red.png");
    }
    std::filesystem::permissions(root / "a", std::filesystem::perms::none);
    auto config = config_for({root});
    config.model = root / "deploy.onnx";
    std::filesystem::copy_file(kFixtures / "models" / "deploy.onnx", config.model);
    const bool privileged = geteuid() == 0;  // then nothing is unreadable
    constexpr uid_t nobody = 65534;
    if (privileged) REQUIRE(seteuid(nobody) == 0);
    const auto searched = run(config);
    if (privileged) REQUIRE(seteuid(0) == 0);
    REQUIRE(searched.lines.size() == 2);
    CHECK(searched.lines[0]["file"] == (root / "a").string());
    CHECK(searched.lines[0]["error"] == "expected a folder that can be read");
    CHECK(searched.lines[1]["class"] == "red");
    CHECK(searched.counts.unreadable == 1);
    std::filesystem::permissions(root / "a", std::filesystem::perms::owner_all);
    std::filesystem::remove_all(root);
}

TEST_CASE("probabilities that are not finite are an error of the file") {
    auto config = config_for({kFixtures / "images" / "red.png"});
    config.model = kFixtures / "models" / "deploy_nan.onnx";
    const auto made = run(config);
    CHECK(contains(made.lines[0]["error"].get<std::string>(), "expected finite probabilities, got NaN"));
    CHECK(made.counts.unreadable == 1);
}

TEST_CASE("folders without images are an error") {
    const auto message = error_of([] { run(config_for({kFixtures / "bundles"})); });
    CHECK(contains(message, "found none"));
}

TEST_CASE("a model of logits is no deployment graph") {
    auto config = config_for({kFixtures / "images" / "red.png"});
    config.model = kFixtures / "models" / "flatten.onnx";
    CHECK(contains(error_of([&config] { run(config); }),
                   "expected a deployment graph's uint8 (*, *, *, 3), got float32"));
}
