/* The declarations of Darwin that the harness uses, as Apple's SDK has them, so that a compiler on Linux sees the code
   below `#if canImport(Darwin)`. SDK_15_4: as from the SDK of macOS 15.4 on. They do nothing. */
#include <stddef.h>
#include <stdint.h>

typedef int integer_t;
typedef unsigned int natural_t;
typedef natural_t mach_port_name_t;
typedef natural_t __darwin_mach_port_t;
typedef __darwin_mach_port_t mach_port_t;
typedef mach_port_t task_name_t;
typedef int kern_return_t;
typedef natural_t mach_msg_type_number_t;
typedef natural_t task_flavor_t;
typedef integer_t *task_info_t;
typedef uint64_t mach_vm_size_t;
typedef uint64_t mach_vm_address_t;
#define KERN_SUCCESS 0
#define TASK_VM_INFO 22

#ifdef SDK_15_4
#define __swift_nonisolated_unsafe __attribute__((__swift_attr__("nonisolated(unsafe)")))
#else
#define __swift_nonisolated_unsafe
#endif
extern mach_port_t mach_task_self_ __swift_nonisolated_unsafe;
#define mach_task_self() mach_task_self_
extern mach_port_name_t task_self_trap(void);
extern kern_return_t task_info(
    task_name_t target_task, task_flavor_t flavor, task_info_t task_info_out, mach_msg_type_number_t *task_info_outCnt);

#pragma pack(push, 4)
struct task_vm_info {
    mach_vm_size_t virtual_size;
    integer_t region_count;
    integer_t page_size;
    mach_vm_size_t resident_size;
    mach_vm_size_t resident_size_peak;
    mach_vm_size_t device;
    mach_vm_size_t device_peak;
    mach_vm_size_t internal;
    mach_vm_size_t internal_peak;
    mach_vm_size_t external;
    mach_vm_size_t external_peak;
    mach_vm_size_t reusable;
    mach_vm_size_t reusable_peak;
    mach_vm_size_t purgeable_volatile_pmap;
    mach_vm_size_t purgeable_volatile_resident;
    mach_vm_size_t purgeable_volatile_virtual;
    mach_vm_size_t compressed;
    mach_vm_size_t compressed_peak;
    mach_vm_size_t compressed_lifetime;
    mach_vm_size_t phys_footprint;
    mach_vm_address_t min_address;
    mach_vm_address_t max_address;
    int64_t ledger_phys_footprint_peak;
};
#pragma pack(pop)
typedef struct task_vm_info task_vm_info_data_t;

int sysctlbyname(const char *, void *, size_t *, void *, size_t);
