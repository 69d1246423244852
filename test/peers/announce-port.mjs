/** Preload that prints the address a server really got, for servers that are given port 0 and print that 0. */
import { Server } from 'node:net'

const listen = Server.prototype.listen

Server.prototype.listen = function listenAndAnnounce(...args) {
  this.once('listening', () => {
    const { address, port } = this.address()
    console.error(JSON.stringify({ msg: 'listening', url: `http://${address}:${port}${process.env.ANNOUNCE_PATH}` }))
  })
  return listen.apply(this, args)
}
