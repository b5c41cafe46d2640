// Files of numbers: NumPy's, and archives of them.
// of(frame), numbers of the given shape, for all frames.
export function stacked(frames, of, ...shape) {
  const each = shape.reduce((a, b) => a * b, 1), all = new Float32Array(frames.length * each);
  frames.forEach((frame, k) => all.set(of(frame), k * each));
  return [all, [frames.length, ...shape]];
}

// Numbers as NumPy's file format, version 1.0.
export function npy(numbers, shape) {
  const words = `{'descr': '${numbers instanceof Int32Array ? "<i4" : "<f4"}', 'fortran_order': False, 'shape': (${shape.map((n) => `${n},`).join(" ")}), }`;
  const head = `${words.padEnd(Math.ceil((words.length + 11) / 64) * 64 - 11)}\n`, file = new Uint8Array(10 + head.length + numbers.byteLength);
  file.set([0x93, ...new TextEncoder().encode("NUMPY"), 1, 0, head.length & 255, head.length >> 8]);
  file.set(new TextEncoder().encode(head), 10);
  file.set(new Uint8Array(numbers.buffer, numbers.byteOffset, numbers.byteLength), 10 + head.length);
  return file;
}

// A zip without compression of [name, bytes] pairs, as a Blob (APPNOTE.TXT, sections 4.3.7, 4.3.12 and 4.3.16).
export function zip(files) {
  const parts = [], directory = [];
  let at = 0;
  for (const [name, bytes] of files) {
    const text = new TextEncoder().encode(name), noTime = [[2, 0], [2, 33]]; // 1 January 1980
    const about = [[2, 20], [2, 0], [2, 0], ...noTime, [4, crc32(bytes)], [4, bytes.length], [4, bytes.length], [2, text.length], [2, 0]];
    parts.push(little([4, 0x04034b50], ...about), text, bytes);
    directory.push(little([4, 0x02014b50], [2, 20], ...about, [2, 0], [2, 0], [2, 0], [4, 0], [4, at]), text);
    at += 30 + text.length + bytes.length;
  }
  const length = directory.reduce((sum, part) => sum + part.length, 0);
  const end = little([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, length], [4, at], [2, 0]);
  return new Blob([...parts, ...directory, end]);
}

// Numbers of so many bytes each, [bytes, number] pairs, the lowest byte first.
function little(...numbers) {
  return Uint8Array.from(numbers.flatMap(([bytes, value]) => Array.from({ length: bytes }, (_, i) => (value >>> (8 * i)) & 255)));
}

const CRC = Int32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

export function crc32(bytes) {
  let crc = -1;
  for (const byte of bytes) crc = (crc >>> 8) ^ CRC[(crc ^ byte) & 255];
  return ~crc >>> 0;
}
