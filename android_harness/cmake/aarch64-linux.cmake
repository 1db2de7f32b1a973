# Debian's cross compiler (g++-aarch64-linux-gnu).
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR aarch64)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)
# So that ctest runs the tests here (qemu-user), in 39 bits of addresses, as many phones have.
set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64 -R 0x8000000000 -L /usr/aarch64-linux-gnu)
