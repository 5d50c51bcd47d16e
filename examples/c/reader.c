// A follower in C11: prints the records of a ring, without the library. Written from the format's specification alone
// (src/layout.md), to show that it suffices: this is where a reader in another language can begin.
//
//   cc -std=c11 -O2 -o reader examples/c/reader.c
//   ./reader [--newest] [--digest] /dev/shm/shmcast/NAME/ring
//
// A follower is a lossy reader that nobody can see: it maps the ring segment read-only, never holds the writer back, and
// cannot be woken, so it polls and naps. It begins with the oldest record from which one can start, or behind the newest,
// and ends when the writer closes the ring. It does not notice that a writer died: then it waits for the next one.
//
//   begins at record 0          the sequence number it starts with
//   0 5 hello                   a record: sequence number, length, payload (\ and what cannot be printed as \xx)
//   lost 3                      it was lapped: the next record's number is higher by exactly so many
//   closed after 1 records, 5 bytes, 3 lost, digest ff7a61ff11320f78
//
// `--digest` leaves the lines of the records out. The digest is FNV-1a (64 bits) over all of them, each one its length (8
// bytes, little-endian) and its payload.
//
// Exit codes: 0 when the ring was closed, 1 for an error, 2 for wrong arguments.

#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// Every shared access is one aligned word. That is an atomic access of 8 bytes, and it must not take a lock: the memory is
// mapped read-only.
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && sizeof(_Atomic uint64_t) == 8, "needs atomic accesses of 64 bits");
_Static_assert(sizeof(size_t) == 8, "needs an address space of 64 bits");
typedef _Atomic uint64_t word;

// ---- the header, by byte offset (src/layout.md, "The headers") ----

enum {
    HEADER_BYTES = 512,
    MAGIC = 0,
    BYTE_ORDER_MARK = 8,
    VERSION = 16,
    LENGTH = 32,
    CAPACITY = 48,
    BLOCKS = 56,
    ALIGNMENT = 64,
    START = 72,
    OPTIONS = 80,
    LIMITS_REGION = 256,
    STATUS_REGION = 272,
    HEADS_REGION = 288,
    CHECKPOINTS_REGION = 304,
    DATA_REGION = 320,
    CHECKSUM = 504,
};

static const uint64_t CELL_OPEN = UINT64_MAX; // the position in a cell that is being written, or never was
static const uint64_t PAD = (uint64_t)1 << 32; // kind 1
static const uint64_t LONGEST = ((uint64_t)1 << 32) - 64 - 8;

// Polls of an empty ring before the first nap, and how long a nap is.
enum { POLLS = 200, NAP_NANOSECONDS = 100 * 1000 };

// A ring whose header was checked. Nothing of the header is loaded a second time.
struct ring {
    uint64_t capacity, blocks, alignment, largest; // bytes; `largest` payload
    word *limit, *closed, *heads, *checkpoints, *data;
};

// A place where a record starts, and the sequence number of that record.
struct boundary {
    uint64_t position, sequence;
};

_Noreturn static void fail(const char *format, ...) {
    va_list arguments;
    fflush(stdout);
    va_start(arguments, format);
    fputs("reader: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static uint64_t acquire(word *at) {
    // In read-only memory: a relaxed load and a fence are all that a language need promise there.
    uint64_t value = atomic_load_explicit(at, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    return value;
}

// ---- opening ----

static bool is_power_of_two(uint64_t n) { return n != 0 && (n & (n - 1)) == 0; }

// The first word of a region, if the region lies behind the header, on a line, and within the segment.
static word *region(unsigned char *segment, const uint64_t *header, unsigned entry, uint64_t needed) {
    uint64_t offset = header[entry / 8], length = header[entry / 8 + 1], end = header[LENGTH / 8];
    if (offset < HEADER_BYTES || offset % 128 != 0 || length < needed || offset > end || length > end - offset)
        fail("damaged header: the region at byte %u has offset %" PRIu64 ", length %" PRIu64, entry, offset, length);
    return (word *)(void *)(segment + offset);
}

static struct ring open_ring(const char *path) {
    int file = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    struct stat status;
    if (file < 0 || fstat(file, &status) != 0)
        fail("%s: %s", path, strerror(errno));
    if (!S_ISREG(status.st_mode) || status.st_size < HEADER_BYTES)
        fail("%s: not a ring: not a file of at least %d bytes", path, HEADER_BYTES);
    uint64_t size = (uint64_t)status.st_size;
    unsigned char *segment = mmap(NULL, size, PROT_READ, MAP_SHARED, file, 0);
    if (segment == MAP_FAILED)
        fail("%s: cannot be mapped: %s", path, strerror(errno));
    close(file);

    // A private copy, each word loaded once, the magic first: what is checked cannot change behind the check.
    uint64_t header[HEADER_BYTES / 8];
    for (size_t i = 0; i < HEADER_BYTES / 8; i++)
        header[i] = acquire((word *)(void *)segment + i);
    if (memcmp(header, "shmcRING", 8) != 0)
        fail("%s: not a ring: its magic is not \"shmcRING\"", path);
    if (header[BYTE_ORDER_MARK / 8] != 0x0102030405060708)
        fail("%s: a ring of a machine with another byte order", path);
    if (header[VERSION / 8] != 1)
        fail("%s: format version %" PRIu64 ", and this program knows 1 only", path, header[VERSION / 8]);
    if (header[LENGTH / 8] > size)
        fail("%s: truncated: %" PRIu64 " bytes of %" PRIu64, path, size, header[LENGTH / 8]);
    uint64_t sum = 0xCBF29CE484222325;
    for (size_t i = 0; i < CHECKSUM / 8; i++) {
        sum = (sum ^ header[i]) * 0x100000001B3;
        sum ^= sum >> 32;
    }
    if (sum != header[CHECKSUM / 8])
        fail("%s: damaged header: its checksum is wrong", path);
    // Bit 0, eviction, is an affair of lossless readers; bit 1, that nobody is woken, of those who sleep.
    if ((header[OPTIONS / 8] & ~(uint64_t)3) != 0)
        fail("%s: the ring has options that this program does not know", path);

    struct ring ring = {
        .capacity = header[CAPACITY / 8], .blocks = header[BLOCKS / 8], .alignment = header[ALIGNMENT / 8]};
    if (!is_power_of_two(ring.capacity) || ring.capacity < 32 || ring.capacity > (uint64_t)1 << 40)
        fail("damaged header: the capacity is %" PRIu64, ring.capacity);
    if ((ring.alignment != 8 && ring.alignment != 64) || ring.alignment > ring.capacity / 4)
        fail("damaged header: the alignment is %" PRIu64, ring.alignment);
    if (!is_power_of_two(ring.blocks) || ring.blocks < 2 || ring.blocks > 1024 ||
        ring.capacity / ring.blocks < ring.alignment)
        fail("damaged header: the number of blocks is %" PRIu64, ring.blocks);
    if (header[START / 8] % ring.alignment != 0 || header[START / 8] > (uint64_t)1 << 63)
        fail("damaged header: the start is %" PRIu64, header[START / 8]);
    ring.largest = ring.capacity / 2 - 8 < LONGEST ? ring.capacity / 2 - 8 : LONGEST;
    ring.limit = region(segment, header, LIMITS_REGION, 16);
    ring.closed = region(segment, header, STATUS_REGION, 256) + 1;
    ring.heads = region(segment, header, HEADS_REGION, 128);
    ring.checkpoints = region(segment, header, CHECKPOINTS_REGION, ring.blocks * 16);
    ring.data = region(segment, header, DATA_REGION, ring.capacity);
    return ring;
}

// ---- boundaries ----

// The one rule: is what was read at the position so far what the writer committed there?
static bool still_whole(const struct ring *ring, uint64_t position) {
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(ring->limit, memory_order_relaxed) - position <= ring->capacity;
}

// A cell that is valid now. The last three checks are against a damaged segment.
static bool read_cell(const struct ring *ring, word *cell, struct boundary *boundary) {
    boundary->position = acquire(cell);
    boundary->sequence = atomic_load_explicit(cell + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_acquire);
    uint64_t again = atomic_load_explicit(cell, memory_order_relaxed);
    return boundary->position != CELL_OPEN && again == boundary->position && still_whole(ring, again) &&
           again % ring->alignment == 0 && again <= ((uint64_t)1 << 63) + ring->capacity &&
           boundary->sequence <= again / 8;
}

// The newer head cell. Asked again while the writer outruns the look.
static struct boundary newest_boundary(const struct ring *ring) {
    for (int attempt = 0; attempt < 1000; attempt++) {
        struct boundary cells[2];
        bool valid[2];
        for (int i = 0; i < 2; i++)
            valid[i] = read_cell(ring, ring->heads + i * 8, &cells[i]);
        if (valid[0] && valid[1])
            return cells[cells[0].position > cells[1].position ? 0 : 1];
        if (valid[0] || valid[1])
            return cells[valid[0] ? 0 : 1];
    }
    fail("no valid head cell: the writer is too fast, or the segment is damaged");
}

// The boundary nearest to a position, among the valid checkpoints and the newest head cell.
static struct boundary nearest_boundary(const struct ring *ring, uint64_t wanted) {
    struct boundary best = newest_boundary(ring), cell;
    for (uint64_t block = 0; block < ring->blocks; block++) {
        if (!read_cell(ring, ring->checkpoints + block * 2, &cell))
            continue;
        uint64_t distance = cell.position > wanted ? cell.position - wanted : wanted - cell.position;
        uint64_t best_distance = best.position > wanted ? best.position - wanted : wanted - best.position;
        if (distance < best_distance)
            best = cell;
    }
    return best;
}

// ---- reading ----

enum found { NOTHING, RECORD, PADDING, LAPPED, CLOSED, DAMAGED };

// One look at a position (src/layout.md, "How to read", steps 2 to 4). The payload goes to `payload`, unless that is NULL.
static enum found look(const struct ring *ring, uint64_t position, uint64_t *payload, uint64_t *length, uint64_t *size) {
    uint64_t index = position & (ring->capacity - 1), room = ring->capacity - index;
    word *at = ring->data + index / 8;

    uint64_t header = acquire(at);
    // For 0 this is a huge number, and so it is for other kinds and for reserved bits: no record.
    *length = header - 1;
    bool possible = *length <= ring->largest;
    if (possible) {
        *size = (8 + *length + ring->alignment - 1) & ~(ring->alignment - 1);
        possible = *size <= room;
    }
    // It may be garbage still; but it lies within the data area.
    for (uint64_t i = 0; payload != NULL && possible && i < (*length + 7) / 8; i++)
        payload[i] = atomic_load_explicit(at + 1 + i, memory_order_relaxed);
    if (!still_whole(ring, position))
        return LAPPED;
    if (possible)
        return RECORD;
    if (header == (PAD | (room - 8 + 1)) && index != 0) {
        *size = room;
        return PADDING;
    }
    if (header != 0)
        return DAMAGED;
    // `closed` BEFORE the second look at the header: what was committed before the close is read.
    if (acquire(ring->closed) == 0)
        return NOTHING;
    header = acquire(at);
    if (!still_whole(ring, position))
        return LAPPED;
    // Committed in between: the next look finds it.
    return header == 0 ? CLOSED : NOTHING;
}

// Behind the last record: from the newest boundary along the chain of headers. Bounded: the writer may never pause.
static struct boundary behind_the_last(const struct ring *ring) {
    struct boundary at = newest_boundary(ring);
    for (uint64_t steps = ring->capacity / ring->alignment; steps > 0; steps--) {
        uint64_t length, size;
        enum found found = look(ring, at.position, NULL, &length, &size);
        if (found != RECORD && found != PADDING)
            break;
        at.position += size;
        at.sequence += found == RECORD;
    }
    return at;
}

// ---- printing ----

static uint64_t digest_of(uint64_t digest, const unsigned char *payload, uint64_t length) {
    for (int i = 0; i < 8; i++)
        digest = (digest ^ (length >> (8 * i) & 0xFF)) * 0x100000001B3;
    for (uint64_t i = 0; i < length; i++)
        digest = (digest ^ payload[i]) * 0x100000001B3;
    return digest;
}

static void print_record(uint64_t sequence, const unsigned char *payload, uint64_t length) {
    printf("%" PRIu64 " %" PRIu64 " ", sequence, length);
    for (uint64_t i = 0; i < length; i++) {
        if (payload[i] >= ' ' && payload[i] <= '~' && payload[i] != '\\')
            putchar(payload[i]);
        else
            printf("\\%02x", (unsigned)payload[i]);
    }
    putchar('\n');
}

static void flush(void) {
    if (fflush(stdout) != 0)
        fail("stdout: %s", strerror(errno));
}

static void follow(const struct ring *ring, bool newest, bool lines) {
    // Only what a record needs of it is ever touched.
    uint64_t *payload = malloc(ring->largest + 8);
    if (payload == NULL)
        fail("no memory for a payload of %" PRIu64 " bytes", ring->largest);
    struct boundary at = newest ? behind_the_last(ring) : nearest_boundary(ring, 0);
    printf("begins at record %" PRIu64 "\n", at.sequence);

    uint64_t records = 0, bytes = 0, lost = 0, digest = 0xCBF29CE484222325;
    for (unsigned idle = 0;;) {
        uint64_t length, size;
        switch (look(ring, at.position, payload, &length, &size)) {
        case RECORD:
            digest = digest_of(digest, (unsigned char *)payload, length);
            if (lines)
                print_record(at.sequence, (unsigned char *)payload, length);
            records++;
            bytes += length;
            at.sequence++;
            at.position += size;
            idle = 0;
            break;
        case PADDING:
            at.position += size;
            break;
        case LAPPED: {
            // On from the middle of what is still whole: from the oldest on it would be lapped again at once.
            uint64_t limit = atomic_load_explicit(ring->limit, memory_order_relaxed);
            struct boundary next = nearest_boundary(ring, limit - ring->capacity / 2);
            if (next.position <= at.position || next.sequence < at.sequence)
                fail("damaged: lapped at position %" PRIu64 ", but the next boundary is no further", at.position);
            // Not one if only padding was overwritten.
            if (next.sequence > at.sequence)
                printf("lost %" PRIu64 "\n", next.sequence - at.sequence);
            lost += next.sequence - at.sequence;
            at = next;
            break;
        }
        case NOTHING:
            if (++idle == POLLS) {
                idle = 0;
                flush();
                nanosleep(&(struct timespec){.tv_nsec = NAP_NANOSECONDS}, NULL);
            }
            break;
        case CLOSED:
            printf("closed after %" PRIu64 " records, %" PRIu64 " bytes, %" PRIu64 " lost, digest %016" PRIx64 "\n", records,
                   bytes, lost, digest);
            flush();
            free(payload);
            return;
        case DAMAGED:
            fail("damaged: no record can begin as position %" PRIu64 " does", at.position);
        }
    }
}

int main(int count, char **arguments) {
    const char *path = NULL;
    bool newest = false, lines = true, wrong = false;
    for (int i = 1; i < count; i++) {
        if (strcmp(arguments[i], "--newest") == 0)
            newest = true;
        else if (strcmp(arguments[i], "--digest") == 0)
            lines = false;
        else if (arguments[i][0] != '-' && path == NULL)
            path = arguments[i];
        else
            wrong = true;
    }
    if (wrong || path == NULL) {
        fputs("reader: usage: reader [--newest] [--digest] RING_FILE\n", stderr);
        return 2;
    }
    struct ring ring = open_ring(path);
    follow(&ring, newest, lines);
    return 0;
}
