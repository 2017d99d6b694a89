import vueI18n from '@intlify/eslint-plugin-vue-i18n'
import vue from 'eslint-plugin-vue'
import a11y from 'eslint-plugin-vuejs-accessibility'
import tseslint from 'typescript-eslint'

export default tseslint.config(
  { ignores: ['dist', 'node_modules'] },
  ...tseslint.configs.recommended,
  ...vue.configs['flat/recommended'],
  ...a11y.configs['flat/recommended'],
  {
    files: ['**/*.vue'],
    languageOptions: { parserOptions: { parser: tseslint.parser } },
  },
  {
    files: ['**/*.vue', '**/*.ts'],
    plugins: { '@intlify/vue-i18n': vueI18n },
    settings: { 'vue-i18n': { localeDir: './src/i18n/*.json', messageSyntaxVersion: '^11.0.0' } },
    rules: {
      // No text stands in a template; marks that every language shares may.
      '@intlify/vue-i18n/no-raw-text': ['error', { ignorePattern: '^[-–—·•/#%:()+×✓…→≤\\s]*$' }],
      '@intlify/vue-i18n/no-missing-keys': 'error',
      // Prettier decides about the form.
      'vue/max-attributes-per-line': 'off',
      'vue/singleline-html-element-content-newline': 'off',
      'vue/multiline-html-element-content-newline': 'off',
      'vue/html-self-closing': 'off',
      'vue/html-closing-bracket-newline': 'off',
      'vue/html-indent': 'off',
      'vue/attributes-order': 'off',
      'vue/require-default-prop': 'off',
      'vue/multi-word-component-names': 'off',
      // A label may stand before its field or around it.
      'vuejs-accessibility/label-has-for': ['error', { required: { some: ['nesting', 'id'] } }],
      // A scripted dialog opens where the person is; the first field is what it is for.
      'vuejs-accessibility/no-autofocus': 'off',
    },
  },
)
