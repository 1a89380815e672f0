// Search runs in a worker, and browsers start none for a page opened from disk. There, a hidden frame does its work:
// its script reads the page's messages and answers through self.postMessage, as in a worker.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.body.appendChild(frame)
      const inside = frame.contentWindow
      inside.importScripts = (...urls) => urls.reduce((done, src) => done.then(() => new Promise((loaded) => {
        const script = frame.contentDocument.createElement("script")
        script.onload = loaded
        script.src = src
        frame.contentDocument.body.appendChild(script)
      })), Promise.resolve())
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", {data}))
      inside.importScripts(url).then(() => {
        this.inside = inside
        this.waiting.splice(0).forEach((data) => this.postMessage(data))
      })
    }

    postMessage(data) {
      if (this.inside) this.inside.dispatchEvent(new MessageEvent("message", {data}))
      else this.waiting.push(data)
    }
  }
}
