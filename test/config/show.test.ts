import { expect, it } from 'vitest'
import { showUrl } from '../../src/config/show.ts'

it.each([
  ['https://mcp.example.com/mcp', 'https://mcp.example.com/mcp'],
  ['https://user:canary@mcp.example.com/mcp', 'https://<secret>@mcp.example.com/mcp'],
  ['https://user:can/ary@mcp.example.com/mcp', 'https://<secret>@mcp.example.com/mcp'],
  ['https://mcp.example.com/mcp?key=canary', 'https://mcp.example.com/mcp?<secret>'],
  ['https://mcp.example.com/mcp#canary', 'https://mcp.example.com/mcp#<secret>'],
  ['https://user:can?ary@mcp.example.com/mcp', '<secret>'],
  ['https://mcp.example.com/mcp?mail=a@canary', '<secret>'],
  ['https://mcp.example.com/s/canary0123456789abcdef/mcp', 'https://mcp.example.com/s/<secret>/mcp'],
  ['localhost:3000/mcp', 'localhost:3000/mcp'],
  ['canary@localhost', '<secret>@localhost'],
])('shows %s as %s', (url, shown) => {
  expect(showUrl(url)).toBe(shown)
})
