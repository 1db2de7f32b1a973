// One benchmark a device at a time: two would time each other.
#pragma once

#include <filesystem>
#include <stdexcept>

namespace bench {

// Another process holds the lock.
struct DeviceBusy : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Holds a lock file until it goes out of scope, or its process ends by whatever means.
class DeviceLock {
  public:
    // Throws DeviceBusy, or std::runtime_error if the file cannot be written.
    explicit DeviceLock(const std::filesystem::path& file);
    DeviceLock(const DeviceLock&) = delete;
    DeviceLock& operator=(const DeviceLock&) = delete;
    ~DeviceLock();

  private:
    int descriptor_;
};

bool is_held(const std::filesystem::path& file);

// Ends whoever holds the lock and waits until it is free; true if it is.
bool end_lock_holder(const std::filesystem::path& file);

}  // namespace bench
