/** Ready-to-paste set-ups for clients. Pure: the address and the key are given. */

export const SYSTEMS = ['macos', 'linux', 'windows', 'python', 'typescript', 'curl'] as const
export type System = (typeof SYSTEMS)[number]

export interface Block {
  /** A message key: what the block is for. */
  label: string
  code: string
}

export const TEST_MODEL = 'claude-haiku-4-5'

/** What to paste, in order. */
export function blocks(system: System, baseUrl: string, key: string): Block[] {
  switch (system) {
    case 'macos':
    case 'linux': {
      const file = system === 'macos' ? '~/.zshrc' : '~/.bashrc'
      const exports = [`export ANTHROPIC_BASE_URL="${baseUrl}"`, `export ANTHROPIC_AUTH_TOKEN="${key}"`]
      return [
        { label: 'setup.install', code: 'npm install -g @anthropic-ai/claude-code' },
        {
          label: system === 'macos' ? 'setup.shellMac' : 'setup.shellLinux',
          code: `cat >> ${file} <<'EOF'\n${exports.join('\n')}\nEOF\nsource ${file}`,
        },
        { label: 'setup.start', code: 'claude' },
      ]
    }
    case 'windows':
      return [
        { label: 'setup.install', code: 'npm install -g @anthropic-ai/claude-code' },
        {
          label: 'setup.powershell',
          code: [
            `[Environment]::SetEnvironmentVariable("ANTHROPIC_BASE_URL", "${baseUrl}", "User")`,
            `[Environment]::SetEnvironmentVariable("ANTHROPIC_AUTH_TOKEN", "${key}", "User")`,
          ].join('\n'),
        },
        { label: 'setup.startWindows', code: 'claude' },
      ]
    case 'python':
      return [
        { label: 'setup.install', code: 'pip install anthropic' },
        {
          label: 'setup.program',
          code: `import anthropic

client = anthropic.Anthropic(base_url="${baseUrl}", api_key="${key}")
message = client.messages.create(
    model="${TEST_MODEL}",
    max_tokens=100,
    messages=[{"role": "user", "content": "Hello"}],
)
print(message.content[0].text)`,
        },
      ]
    case 'typescript':
      return [
        { label: 'setup.install', code: 'npm install @anthropic-ai/sdk' },
        {
          label: 'setup.program',
          code: `import Anthropic from '@anthropic-ai/sdk'

const client = new Anthropic({ baseURL: '${baseUrl}', apiKey: '${key}' })
const message = await client.messages.create({
  model: '${TEST_MODEL}',
  max_tokens: 100,
  messages: [{ role: 'user', content: 'Hello' }],
})
console.log(message.content)`,
        },
      ]
    case 'curl':
      return [
        {
          label: 'setup.terminal',
          code: `curl ${baseUrl}/v1/messages \\
  -H "x-api-key: ${key}" \\
  -H "anthropic-version: 2023-06-01" \\
  -H "content-type: application/json" \\
  -d '{"model":"${TEST_MODEL}","max_tokens":100,"messages":[{"role":"user","content":"Hello"}]}'`,
        },
      ]
  }
}

/** The system that a browser says it runs on. */
export function likelySystem(agent: string): System {
  if (/Windows/i.test(agent)) return 'windows'
  return /Mac|iPhone|iPad/i.test(agent) ? 'macos' : 'linux'
}
