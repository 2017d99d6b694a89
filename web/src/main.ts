import './style.css'
import './theme'
import { createApp } from 'vue'
import App from './App.vue'
import { keepFocus } from './focus'
import { i18n, startLocale } from './i18n'
import { router } from './router'

await startLocale()
createApp(App).use(i18n).use(router).mount('#app')
keepFocus()
