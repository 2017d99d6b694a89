/// <reference types="vitest/config" />
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import vueI18n from '@intlify/unplugin-vue-i18n/vite'
import tailwind from '@tailwindcss/vite'
import vue from '@vitejs/plugin-vue'
import { defineConfig, type Plugin } from 'vite'

const dist = resolve(import.meta.dirname, 'dist')

/** Leaves only what the binary embeds: every asset compressed; the index stays readable, since the server fills it in. */
function compressed(): Plugin {
  return {
    name: 'compressed',
    apply: 'build',
    closeBundle() {
      const folder = resolve(dist, 'assets')
      for (const name of readdirSync(folder)) {
        const path = resolve(folder, name)
        writeFileSync(`${path}.gz`, gzipSync(readFileSync(path), { level: 9 }))
        rmSync(path)
      }
    },
  }
}

export default defineConfig({
  base: '/web/',
  plugins: [
    vue(),
    tailwind(),
    // Messages are compiled here: the browser needs no compiler, and the policy of the pages allows no eval.
    vueI18n({
      include: [resolve(import.meta.dirname, 'src/i18n/*.json')],
      runtimeOnly: true,
      dropMessageCompiler: true,
      fullInstall: false,
    }),
    compressed(),
  ],
  define: { __VUE_OPTIONS_API__: false, __VUE_PROD_DEVTOOLS__: false, __INTLIFY_PROD_DEVTOOLS__: false },
  build: {
    outDir: dist,
    target: 'es2022',
    // Nothing inline: the policy of the pages is 'self'.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
    rolldownOptions: {
      output: {
        // What two pages share comes in one piece: a browser opens few connections to one host.
        advancedChunks: {
          groups: [
            { name: 'vendor', test: /node_modules/ },
            { name: 'shared', test: /\/src\/.*\.(ts|vue)/, minShareCount: 2 },
          ],
        },
      },
    },
  },
  server: { proxy: { '^/(admin|api|v1|web/auth)/': 'http://127.0.0.1:3000' } },
  test: { include: ['src/**/*.test.ts'] },
})
