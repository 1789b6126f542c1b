/** Nothing: it is there so that `import "image-analyzer-react/styles.css"` has a type. */
export {};
