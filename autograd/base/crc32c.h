/* CRC-32C (Castagnoli's polynomial, RFC 3720, B.4): the checksum of TensorBoard's records. */
#ifndef ATTAR_AUTOGRAD_BASE_CRC32C_H
#define ATTAR_AUTOGRAD_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

uint32_t crc32c(const void *bytes, size_t n);

#endif
