/* Stands in for libudev when hwloc is linked statically: Debian's libhwloc.a asks udev for the names of disks, and
 * Debian has no libudev.a. Every call may fail, so every call here says "nothing known"; the inventory reads what it
 * needs of disks from sysfs itself. The five symbols are those that `nm -u libhwloc.a` shows (hwloc 2.9.0). */

struct udev;
struct udev_device;

struct udev *udev_new(void) { return 0; }

struct udev *udev_unref(struct udev *udev) { (void)udev; return 0; }

struct udev_device *udev_device_new_from_subsystem_sysname(struct udev *udev, const char *subsystem,
                                                           const char *sysname)
{
    (void)udev; (void)subsystem; (void)sysname;
    return 0;
}

const char *udev_device_get_property_value(struct udev_device *device, const char *key)
{
    (void)device; (void)key;
    return 0;
}

struct udev_device *udev_device_unref(struct udev_device *device) { (void)device; return 0; }
