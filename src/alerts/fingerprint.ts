const offsetBasis = 0xcbf29ce484222325n
const prime = 0x100000001b3n
const separator = 0xff

/**
 * What Alertmanager calls a set of labels: FNV-1a over names and values in the order of the names, each followed by a
 * byte that is in no UTF-8 text (`LabelSet.Fingerprint` of github.com/prometheus/common/model).
 */
export function fingerprint(labels: Readonly<Record<string, string>>): string {
  let hash = offsetBasis
  const add = (byte: number) => {
    hash = BigInt.asUintN(64, (hash ^ BigInt(byte)) * prime)
  }
  const byName = Object.entries(labels).toSorted(([one], [other]) =>
    Buffer.compare(Buffer.from(one), Buffer.from(other)),
  )
  for (const text of byName.flat()) {
    for (const byte of Buffer.from(text)) add(byte)
    add(separator)
  }
  return hash.toString(16).padStart(16, '0')
}
