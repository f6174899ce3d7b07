#include "experiments/events.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "autograd/base/crc32c.h"
#include "autograd/base/err.h"
#include "autograd/base/file.h"

static const char prefix[] = "events.out.tfevents.";

/* ---- protocol buffers: a message is a row of fields, each with its number and its kind ---- */

enum kind { VARINT = 0, BYTES8 = 1, SIZED = 2, BYTES4 = 5 };

/* Fields of the messages, by the names in their .proto files. */
enum {
    EVENT_WALL_TIME = 1,
    EVENT_STEP = 2,
    EVENT_FILE_VERSION = 3,
    EVENT_SUMMARY = 5,
    EVENT_SESSION_LOG = 7,
    SESSION_LOG_STATUS = 1,
    SUMMARY_VALUE = 1,
    VALUE_TAG = 1,
    VALUE_SIMPLE_VALUE = 2,
    VALUE_TENSOR = 8,
    VALUE_METADATA = 9,
    METADATA_PLUGIN_DATA = 1,
    METADATA_DATA_CLASS = 4,
    PLUGIN_DATA_NAME = 1,
    TENSOR_DTYPE = 1,
    TENSOR_SHAPE = 2,
    TENSOR_STRING_VAL = 8,
};

enum { SESSION_START = 1, DATA_CLASS_TENSOR = 2, DT_STRING = 7 };

static void add_varint(struct buf *b, uint64_t x)
{
    unsigned char bytes[10];
    size_t n = 0;
    for (; x >= 128; x >>= 7)
        bytes[n++] = (unsigned char)(x | 128);
    bytes[n++] = (unsigned char)x;
    buf_add(b, bytes, n);
}

static void add_little_endian(struct buf *b, uint64_t x, size_t n)
{
    unsigned char bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)(x >> 8 * i);
    buf_add(b, bytes, n);
}

static void add_key(struct buf *b, int field, enum kind kind)
{
    add_varint(b, (uint64_t)field << 3 | kind);
}

static void add_count(struct buf *b, int field, uint64_t x)
{
    add_key(b, field, VARINT);
    add_varint(b, x);
}

static void add_double(struct buf *b, int field, double x)
{
    uint64_t bits;
    memcpy(&bits, &x, 8);
    add_key(b, field, BYTES8);
    add_little_endian(b, bits, 8);
}

static void add_float(struct buf *b, int field, float x)
{
    uint32_t bits;
    memcpy(&bits, &x, 4);
    add_key(b, field, BYTES4);
    add_little_endian(b, bits, 4);
}

static void add_bytes(struct buf *b, int field, const void *bytes, size_t n)
{
    add_key(b, field, SIZED);
    add_varint(b, n);
    buf_add(b, bytes, n);
}

/* A message inside another; `inner` is empty afterwards. */
static void add_message(struct buf *b, int field, struct buf *inner)
{
    add_bytes(b, field, inner->p, inner->n);
    b->failed |= inner->failed;
    buf_clear(inner);
}

/* ---- records ---- */

static uint32_t masked_crc(const void *bytes, size_t n)
{
    const uint32_t crc = crc32c(bytes, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8;
}

/* Length, its checksum, e->message, its checksum. A failure is reported and stops the file. */
static void write_record(struct events *e)
{
    struct buf r = {0};
    add_little_endian(&r, e->message.n, 8);
    if (!r.failed)
        add_little_endian(&r, masked_crc(r.p, 8), 4);
    buf_add(&r, e->message.p, e->message.n);
    add_little_endian(&r, masked_crc(e->message.p, e->message.n), 4);
    if (r.failed || e->message.failed || tail_add(&e->file, r.p, r.n)) {
        err_warn("%s; no more is written for TensorBoard", err_text());
        e->stopped = true;
    }
    buf_free(&r);
}

static void begin_event(struct events *e, int64_t step)
{
    buf_clear(&e->message);
    add_double(&e->message, EVENT_WALL_TIME, e->began + e->time);
    if (step)
        add_count(&e->message, EVENT_STEP, (uint64_t)step);
}

static void write_head(struct events *e)
{
    static const char version[] = "brain.Event:2";
    struct buf start = {0};
    begin_event(e, 0);
    add_bytes(&e->message, EVENT_FILE_VERSION, version, strlen(version));
    write_record(e);
    begin_event(e, 0);
    add_count(&start, SESSION_LOG_STATUS, SESSION_START);
    add_message(&e->message, EVENT_SESSION_LOG, &start);
    write_record(e);
    buf_free(&start);
}

/* ---- a line's values ---- */

static bool is_validation(const char *key)
{
    return !strncmp(key, "valid_", 6);
}

static void add_scalar(struct buf *summary, struct buf *value, const char *group, const char *key,
                       const json_t *x)
{
    char tag[256];
    snprintf(tag, sizeof tag, "%s/%s", group, is_validation(key) ? key + 6 : key);
    add_bytes(value, VALUE_TAG, tag, strlen(tag));
    add_float(value, VALUE_SIMPLE_VALUE, json_is_null(x) ? NAN : (float)json_number_value(x));
    add_message(summary, SUMMARY_VALUE, value);
}

static void add_text(struct buf *summary, struct buf *value, const json_t *prompt,
                     const json_t *sample)
{
    static const char tag[] = "sample", plugin[] = "text";
    struct buf data = {0}, metadata = {0}, text = {0};
    add_bytes(&data, PLUGIN_DATA_NAME, plugin, strlen(plugin));
    add_message(&metadata, METADATA_PLUGIN_DATA, &data);
    add_count(&metadata, METADATA_DATA_CLASS, DATA_CLASS_TENSOR);
    buf_add(&text, json_string_value(prompt), json_string_length(prompt));
    buf_add(&text, json_string_value(sample), json_string_length(sample));
    add_bytes(value, VALUE_TAG, tag, strlen(tag));
    add_message(value, VALUE_METADATA, &metadata);
    add_count(&data, TENSOR_DTYPE, DT_STRING);
    add_bytes(&data, TENSOR_SHAPE, "", 0); // no dimensions: one text
    add_message(&data, TENSOR_STRING_VAL, &text);
    add_message(value, VALUE_TENSOR, &data);
    add_message(summary, SUMMARY_VALUE, value);
    buf_free(&data);
    buf_free(&metadata);
    buf_free(&text);
}

/* One event with all values of the line. */
static int write_line(void *events, int64_t step, const json_t *line)
{
    struct events *e = events;
    struct buf summary = {0}, value = {0};
    const char *key, *group = "train";
    json_t *x, *object = (json_t *)(uintptr_t)line; // the macro below wants it not const
    const double time = metrics_number(line, "time");
    if (e->stopped)
        return 0;
    if (!isnan(time))
        e->time = time;
    json_object_foreach(object, key, x) if (is_validation(key)) group = "valid";
    json_object_foreach(object, key,
                        x) if ((json_is_number(x) || json_is_null(x)) && strcmp(key, "step"))
        add_scalar(&summary, &value, group, key, x);
    x = json_object_get(line, "sample");
    if (json_is_string(x))
        add_text(&summary, &value, json_object_get(line, "prompt"), x);
    if (summary.n) {
        begin_event(e, step);
        add_message(&e->message, EVENT_SUMMARY, &summary);
        write_record(e);
    }
    buf_free(&summary);
    buf_free(&value);
    return 0;
}

/* ---- the folder ---- */

/* The newest event file's time; 0: there is none; -1 with err() set. Other than `keep` (or NULL)
 * they are emptied. */
static long long scan(const char *folder, const char *keep)
{
    long long newest = 0;
    struct buf names = {0};
    const int listed = file_list(folder, &names);
    for (size_t i = 0; listed > 0 && i < names.n; i += strlen(names.p + i) + 1) {
        const char *name = names.p + i;
        char path[4600];
        if (strncmp(name, prefix, strlen(prefix)))
            continue;
        const long long at = atoll(name + strlen(prefix));
        newest = at > newest ? at : newest;
        snprintf(path, sizeof path, "%.4200s/%s", folder, name);
        if (keep && strcmp(name, keep) && truncate(path, 0))
            err_warn("%s: %s", path, strerror(errno));
    }
    buf_free(&names);
    return listed < 0 ? -1 : newest;
}

int events_open(struct events *e, struct metrics *m, const char *folder, double began)
{
    char host[65] = "", name[256], path[4600];
    *e = (struct events){.file.fd = -1, .began = began};
    if (mkdir(folder, 0777) && errno != EEXIST)
        return err("%s: %s", folder, strerror(errno));
    // readers take the files in the order of their names
    const long long now = (long long)time(NULL), newest = scan(folder, NULL), after = newest + 1;
    if (newest < 0)
        return -1;
    gethostname(host, sizeof host - 1);
    snprintf(name, sizeof name, "%s%010lld.%s.%d", prefix, now > after ? now : after, host,
             (int)getpid());
    snprintf(path, sizeof path, "%.4200s/%s", folder, name);
    if (tail_open(&e->file, path))
        return -1;
    write_head(e);
    if (metrics_follow(m, write_line, e)) {
        m->each = NULL;
        return -1;
    }
    if (!e->stopped && !e->file.wait.n && scan(folder, name) < 0)
        err_warn("%s; TensorBoard shows earlier curves twice", err_text());
    return 0;
}

void events_close(struct events *e)
{
    if (e->file.path && tail_close(&e->file) && !e->stopped)
        err_warn("%s; TensorBoard's file lacks its end", err_text());
    buf_free(&e->message);
    *e = (struct events){.file.fd = -1};
}
