export async function selftest(): Promise<number> {
  return 1
}
